"""Statistics of protected inputs, whose outputs corrections should leave unchanged.

Their second moments regularise the ridge map, and a sample of their keys bounds the radius of codebook entries.
"""

# torch.linalg has no type annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interventions.corrections.gate import BackgroundStatistics
from interventions.corrections.layer import AffineLayer, power_of_two, rms
from interventions.moments import Moments

DIMENSIONS = 32  # of projected keys; with 100 speech corrections, 24 to 64 work equally well
SAMPLE = 4000  # number of keys in the sample
_LEVELS = 16  # number of quantisation steps in the layer's output scale
_HEADROOM = 1.25  # how far an input may exceed the largest protected one before it is clipped


@dataclass(frozen=True, eq=False)
class Protected:
    """Statistics of the protected keys at a layer, and the grids on which corrections are quantised.

    Inputs and values are stored as multiples of `input_step` (8 bits) and `value_step` (16 bits), so that sums over
    corrections are exact in any order.

    Args:
        layer: the layer that holds the corrections.
        input_step: `(inputs,)`, quantisation step of each input, a power of two.
        value_step: `()`, quantisation step of values, a power of two.
        second: `(width + 1, width + 1)`, the mean of k k' over protected keys k with a 1 appended for the bias, in
            quantisation steps.
        projection: `(dimensions, width)`, which together with `offset` maps a key to its whitened principal components.
        offset: `(dimensions,)`.
        sample: `(number, dimensions)`, a sample of protected keys, projected.
        background: how whole protected examples vary, for the gate; None if there is no gate (for a linear map, or if
            there is a single protected example).
        quantisation_levels: number of `value_step`s that make up `output_scale`.
    """

    layer: AffineLayer
    input_step: Tensor
    value_step: Tensor
    second: Tensor
    projection: Tensor
    offset: Tensor
    sample: Tensor
    background: BackgroundStatistics | None = None
    quantisation_levels: int = _LEVELS

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        layer: AffineLayer,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        dimensions: int = DIMENSIONS,
        sample: int = SAMPLE,
        seed: int = 0,
    ) -> "Protected":
        """Compute the statistics of protected examples.

        Args:
            layer: the layer.
            inputs: its inputs `(time, inputs)` in each example.
            outputs: its outputs `(steps, units)` in each example.
            dimensions: number of principal components of projected keys.
            sample: expected number of keys in the sample.
            seed: seed of the sample.

        Raises:
            ValueError: If there are fewer than two keys.
        """
        moments = Moments(layer.width)
        largest = torch.zeros(layer.inputs)
        sampled: list[Tensor] = []
        generator = torch.Generator().manual_seed(seed)
        steps = sum(len(output) for output in outputs)
        for example, output in zip(inputs, outputs, strict=True):
            keys = layer.keys(example.float().cpu())[: len(output)]
            moments.update(keys)
            largest = torch.maximum(largest, example.float().cpu().abs().amax(0))
            sampled.append(keys[torch.rand(len(keys), generator=generator) < sample / steps])
        covariance, mean = moments.covariance, moments.mean
        second = torch.zeros(layer.width + 1, layer.width + 1, dtype=torch.float64)
        second[:-1, :-1] = covariance + torch.outer(mean, mean)
        second[:-1, -1] = second[-1, :-1] = mean
        second[-1, -1] = 1
        variances, axes = torch.linalg.eigh(covariance)
        axes, deviations = axes[:, -dimensions:], variances[-dimensions:].clamp_min(0).sqrt()
        input_step = power_of_two(_HEADROOM * largest / 127)
        key_step = torch.cat([input_step.repeat_interleave(layer.kernel), torch.ones(1)]).double()
        # Directions in which keys vary little compared with their rounding get little weight.
        rounding = ((axes * key_step[:-1, None]).square().sum(0) / 12).sqrt()
        projection = (axes / (deviations + 8 * rounding + 1e-6 * deviations[-1] + 1e-30)).T
        offset = projection @ mean
        projected = torch.cat(sampled).double() @ projection.T - offset
        background = None
        if layer.convolution and len(inputs) > 1:
            background = BackgroundStatistics.fit([example.float().cpu() for example in inputs])
        return cls(
            layer=layer,
            input_step=input_step,
            value_step=power_of_two(rms(torch.cat(list(outputs)).float().cpu()) / _LEVELS).float(),
            second=(second / torch.outer(key_step, key_step)).float(),
            projection=projection.float(),
            offset=offset.float(),
            sample=projected.float(),
            background=background,
        )

    @property
    def output_scale(self) -> float:
        """The root mean square of the layer's outputs, rounded up to a power of two."""
        return self.quantisation_levels * float(self.value_step)

    @property
    def key_step(self) -> Tensor:
        """The quantisation steps of a key with a 1 appended, `(width + 1,)`."""
        return torch.cat([self.input_step.repeat_interleave(self.layer.kernel), torch.ones(1)])

    def project(self, keys: Tensor) -> Tensor:
        """Project keys `(number, width)` to `(number, dimensions)`."""
        return keys @ self.projection.T - self.offset

    def round_inputs(self, inputs: Tensor) -> Tensor:
        """Quantise inputs `(time, inputs)` to int8."""
        return (inputs / self.input_step).round().clamp(-127, 127).to(torch.int8)

    def round_values(self, values: Tensor) -> Tensor:
        """Quantise values `(steps, units)` to int16."""
        return (values / self.value_step).round().clamp(-32767, 32767).to(torch.int16)

    @property
    def rounding(self) -> float:
        """The root mean square distance by which quantisation moves a projected key."""
        steps = self.input_step.repeat_interleave(self.layer.kernel)
        return float((self.projection * steps).square().sum().div(12).sqrt())

    def radii(self, projected: Tensor) -> Tensor:
        """Return the distance `(number,)` from each projected key `(number, dimensions)` to the nearest protected key.

        The distance is at least four times the distance by which quantisation moves a key.
        """
        return torch.cdist(projected, self.sample).amin(1).clamp_min(4 * self.rounding)
