"""What corrections leave alone: what is known of the keys of inputs whose outputs are right.

Their second moments are what a ridge map is held back by; a sample of them says how far a codebook's entry may reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interventions.corrections.gate import BackgroundStatistics
from interventions.corrections.layer import AffineLayer, power_of_two, rms
from interventions.moments import Moments

DIMENSIONS = 32  # of projected keys: with 24 to 64, 100 corrections of speech hold and reach alike
SAMPLE = 4000  # keys that are kept
_GRAIN = 16  # how many steps of their grid values have for the usual size
_HEADROOM = 1.25  # how far beyond the protected ones an input may go before it is cut off


@dataclass(frozen=True, eq=False)
class Protected:
    """What corrections at a layer must know of the keys that they should leave alone, and the grids they are kept on.

    - `input_step` `(inputs,)` and `value_step` `()`, powers of two: keys and values are whole multiples of these (in 8
      and 16 bits), so that sums over corrections are exact, whatever their order;
    - `second` `(width + 1, width + 1)`: the mean of k k' over the protected keys k, a 1 behind each for the bias, in
      multiples of those steps;
    - `projection` `(dimensions, width)` and `offset` `(dimensions,)`: a key's principal components, whitened;
    - `sample` `(number, dimensions)`: protected keys, projected;
    - `background`: how protected examples vary as a whole, for a gate; None where there can be none, before a linear
      map or with one example;
    - `grain`: how many of `value_step` the usual output has.
    """

    layer: AffineLayer
    input_step: Tensor
    value_step: Tensor
    second: Tensor
    projection: Tensor
    offset: Tensor
    sample: Tensor
    background: BackgroundStatistics | None = None
    grain: int = _GRAIN

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
        """Args: `inputs` `(time, inputs)` of the layer and its `outputs` `(steps, units)`, of each protected example.

        Raises:
            ValueError: there are fewer than two keys.
        """
        moments = Moments(layer.width)
        most = torch.zeros(layer.inputs)
        drawn = []
        draw = torch.Generator().manual_seed(seed)
        steps = sum(len(output) for output in outputs)
        for own, output in zip(inputs, outputs, strict=True):
            keys = layer.keys(own.float().cpu())[: len(output)]
            moments.update(keys)
            most = torch.maximum(most, own.float().cpu().abs().amax(0))
            drawn.append(keys[torch.rand(len(keys), generator=draw) < sample / steps])
        covariance, mean = moments.covariance, moments.mean
        second = torch.zeros(layer.width + 1, layer.width + 1, dtype=torch.float64)
        second[:-1, :-1] = covariance + torch.outer(mean, mean)
        second[:-1, -1] = second[-1, :-1] = mean
        second[-1, -1] = 1
        variances, axes = torch.linalg.eigh(covariance)
        axes, deviations = axes[:, -dimensions:], variances[-dimensions:].clamp_min(0).sqrt()
        input_step = power_of_two(_HEADROOM * most / 127)
        steps_of_key = torch.cat([input_step.repeat_interleave(layer.kernel), torch.ones(1)]).double()
        # A direction that varies little beside what rounding moves keys by says little.
        rounding = ((axes * steps_of_key[:-1, None]).square().sum(0) / 12).sqrt()
        projection = (axes / (deviations + 8 * rounding + 1e-6 * deviations[-1] + 1e-30)).T
        offset = projection @ mean
        projected = torch.cat(drawn).double() @ projection.T - offset
        return cls(
            layer, input_step, power_of_two(rms(torch.cat(list(outputs)).float().cpu()) / _GRAIN).float(),
            (second / torch.outer(steps_of_key, steps_of_key)).float(),
            projection.float(), offset.float(), projected.float(),
            BackgroundStatistics.fit([own.float().cpu() for own in inputs]) if layer.convolution and len(inputs) > 1 else None,
        )  # fmt: skip

    @property
    def usual(self) -> float:
        """The size of the layer's usual output: its root mean square, brought up to a power of two."""
        return self.grain * float(self.value_step)

    @property
    def key_step(self) -> Tensor:
        """The grid of a key with the 1 behind it, `(width + 1,)`."""
        return torch.cat([self.input_step.repeat_interleave(self.layer.kernel), torch.ones(1)])

    def project(self, keys: Tensor) -> Tensor:
        """Keys `(number, width)`, projected: `(number, dimensions)`."""
        return keys @ self.projection.T - self.offset

    def round_inputs(self, inputs: Tensor) -> Tensor:
        """Inputs `(time, inputs)` in steps of their grid, int8."""
        return (inputs / self.input_step).round().clamp(-127, 127).to(torch.int8)

    def round_values(self, values: Tensor) -> Tensor:
        """Values `(steps, units)` in steps of their grid, int16."""
        return (values / self.value_step).round().clamp(-32767, 32767).to(torch.int16)

    @property
    def rounding(self) -> float:
        """How far rounding moves a projected key (root mean square)."""
        steps = self.input_step.repeat_interleave(self.layer.kernel)
        return float((self.projection * steps).square().sum().div(12).sqrt())

    def radii(self, projected: Tensor) -> Tensor:
        """How far each of `(number, dimensions)` is from the nearest protected key, `(number,)`; at least several times
        as far as rounding moves a key.
        """
        return torch.cdist(projected, self.sample).amin(1).clamp_min(4 * self.rounding)
