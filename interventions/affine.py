"""Affine maps of activations: the form that an intervention must have to be folded into weights."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """The map from an activation `y` `(units,)` to `scale * y + left @ (right @ y) + shift`, the same at every step.

    Args:
        scale: `(units,)`; None for ones.
        shift: `(units,)`; None for zeros.
        left: `(units, rank)`, given together with `right`.
        right: `(rank, units)`.
        added: `(units, width)`, a map that is applied to the module's input instead of its output, and whose result is
            added. `width` is the length of a weight row.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None
    added: Tensor | None = None

    @property
    def mixes_units(self) -> bool:
        """Whether units depend on other units. Such a map can only be folded if each unit has a full weight row."""
        return self.left is not None

    @property
    def needs_bias(self) -> bool:
        """Whether the map adds a constant, so that folding it needs a bias."""
        return self.shift is not None

    def at_strength(self, strength: float) -> "Affine":
        """Interpolate from the identity (0) to this map (1), or extrapolate beyond it."""
        if strength == 1:
            return self
        return Affine(
            None if self.scale is None else 1 + strength * (self.scale - 1),
            None if self.shift is None else strength * self.shift,
            None if self.left is None else strength * self.left,
            self.right,
            None if self.added is None else strength * self.added,
        )

    def fold_weight(self, weight: Tensor) -> Tensor:
        """Return the weight `(units, ...)` that computes the mapped activation directly."""
        rows = self._linear(_wide(weight).reshape(len(weight), -1))
        return (rows if self.added is None else rows + _wide(self.added)).reshape(weight.shape).to(weight)

    def fold_bias(self, bias: Tensor) -> Tensor:
        """Return the bias `(units,)` that goes with the weight from `fold_weight`."""
        mapped = self._linear(_wide(bias).unsqueeze(1)).squeeze(1)
        return (mapped if self.shift is None else mapped + _wide(self.shift)).to(bias)

    def _linear(self, rows: Tensor) -> Tensor:
        mapped = rows if self.scale is None else _wide(self.scale)[:, None] * rows
        if self.left is None or self.right is None:
            return mapped
        return mapped + _wide(self.left) @ (_wide(self.right) @ rows)


def _wide(tensor: Tensor) -> Tensor:
    # Some devices have no float64. The result is rounded once, at the end.
    return tensor.detach().to("cpu", torch.float64)
