"""The corrections of a memory, and the ridge map, codebook and gate that are fitted to them."""

# Tensor.norm has no annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from interventions.corrections.codebook import Codebook
from interventions.corrections.gate import Gate
from interventions.corrections.protect import Protected
from interventions.corrections.ridge import RidgeSums

_RADIUS = 0.7  # radius of a codebook entry, as a share of the distance to the nearest protected key
_TOKEN_RADIUS = 0.5  # for tokens, also at most this share of the distance to a differing key (`_distance_to_other`)
_ROUNDING = 2.0  # but at least this multiple of the keys' rounding error, so that the entry is found again
_SIMILAR = 0.5  # values that differ by less than this share of an entry's value count as equal to it
_MIN_RESIDUAL = 0.02  # residuals below this share of the layer's output scale get no entry


@dataclass(frozen=True, eq=False)
class Entry:
    """One correction, quantised on the grids of `Protected`.

    Args:
        inputs: `(time, inputs)` int8, the layer's inputs.
        values: `(steps, units)` int16, the change of the layer's outputs.
        targets: `(steps, units)` int16, the regression targets. They exceed `values`, because the ridge map reaches its
            targets only in part.
        radii: `(steps,)`, the distance from each step's key to the nearest protected key.
    """

    inputs: Tensor
    values: Tensor
    targets: Tensor
    radii: Tensor


class Fit(NamedTuple):
    """What is fitted to corrections: ridge map (`weight` `(units, width)`, `bias` `(units,)`), codebook and gate."""

    weight: Tensor
    bias: Tensor
    codebook: Codebook
    gate: Gate | None


class CorrectionSet:
    """The corrections of a memory, by number. The set is mutable, and shared by all views of the memory.

    Its contents do not depend on the order in which corrections were added. Removing one restores the state before it
    was added, bit for bit.

    Args:
        protected: the layer and its protected inputs.
        strength: weight of the protected inputs in the ridge regression, in steps.
        gated: whether to fit a gate, if the layer can have one.
    """

    def __init__(self, protected: Protected, strength: float, gated: bool) -> None:
        self.entries: dict[int, Entry] = {}
        self.projected: dict[int, Tensor] = {}
        self.summaries: dict[int, Tensor] = {}
        self.protected, self.strength = protected, strength
        self._background = protected.background if gated else None
        step = protected.layer.site.step
        self._tokens = step is not None and step.unit == "token"
        self.sums = RidgeSums(protected)
        self.version = 0
        self._fitted: tuple[int, Fit] | None = None

    @property
    def gated(self) -> bool:
        """Whether a gate limits the ridge map to examples like the corrected ones."""
        return self._background is not None

    def add(self, number: int, entry: Entry) -> None:
        """Add a correction. Raises ValueError if the number is in use."""
        if number in self.entries:
            raise ValueError(f"There is a correction {number} already.")
        inputs = entry.inputs.float() * self.protected.input_step
        keys = self.protected.layer.keys(inputs)
        if self._background is not None:
            self.summaries[number] = self._background.row(inputs)
        self.entries[number], self.projected[number] = entry, self.protected.project(keys[: len(entry.values)])
        self.sums.add(entry.inputs, entry.targets)
        self.version += 1

    def remove(self, number: int) -> Entry:
        """Remove a correction and return it. Raises ValueError if no correction has this number."""
        if number not in self.entries:
            numbers = ", ".join(map(str, sorted(self.entries)))
            raise ValueError(f"There is no correction {number}. There are: {numbers or 'none'}.")
        entry = self.entries.pop(number)
        self.projected.pop(number)
        self.summaries.pop(number, None)
        self.sums.remove(entry.inputs, entry.targets)
        self.version += 1
        return entry

    def fitted(self) -> Fit:
        """Return the ridge map, codebook and gate of the current corrections, cached until the corrections change."""
        if self._fitted is None or self._fitted[0] != self.version:
            with torch.inference_mode(False), torch.no_grad():  # in this order, because the first enables gradients
                weight, bias = self.sums.solve(self.strength)
                gate = None
                if self._background is not None and self.entries:
                    # Sorted, so that the order of adding has no effect.
                    gate = Gate.fit(self._background, [row for _, row in sorted(self.summaries.items())])
                self._fitted = (self.version, Fit(weight, bias, self._codebook(weight, bias, gate), gate))
        return self._fitted[1]

    def _codebook(self, weight: Tensor, bias: Tensor, gate: Gate | None) -> Codebook:
        protected = self.protected
        smallest = _MIN_RESIDUAL * protected.output_scale * weight.shape[0] ** 0.5
        keys: list[Tensor] = []
        radii: list[Tensor] = []
        values: list[Tensor] = []
        for number, entry in sorted(self.entries.items()):
            inputs = entry.inputs.float() * protected.input_step
            mapped = protected.layer.keys(inputs)[: len(entry.values)] @ weight.T + bias
            if gate is not None:
                mapped = mapped * gate(inputs.unsqueeze(0))[0]
            residual = entry.values.float() * protected.value_step - mapped
            large = residual.norm(dim=1) > smallest
            radius = _RADIUS * entry.radii
            if self._tokens:
                distance = _distance_to_other(self.projected[number], torch.where(large.unsqueeze(1), residual, 0.0))
                radius = torch.minimum(radius, (_TOKEN_RADIUS * distance).clamp_min(_ROUNDING * protected.rounding))
            keys.append(self.projected[number][large])
            radii.append(radius[large])
            values.append(residual[large])
        if not keys:
            units, dimensions = len(bias), len(protected.offset)
            return Codebook(torch.zeros(0, dimensions), torch.zeros(0), torch.zeros(0, units))
        return Codebook(torch.cat(keys), torch.cat(radii), torch.cat(values))


def _distance_to_other(keys: Tensor, values: Tensor) -> Tensor:
    """Return the distance from each key `(steps, dimensions)` to the example's nearest key with a different value.

    `values` is `(steps, units)`. The result `(steps,)` is infinite if all values are similar.
    """
    other = torch.cdist(values, values) > _SIMILAR * values.norm(dim=1, keepdim=True)
    return torch.where(other, torch.cdist(keys, keys), float("inf")).amin(1)
