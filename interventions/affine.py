"""Affine maps of an activation: what an intervention must amount to, at every step alike, to be folded into weights."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """The map of an activation `(units,)` to `scale * y + left @ (right @ y) + shift`.

    Each part is None where it changes nothing: `scale` and `shift` are `(units,)`, `left` is `(units, rank)` and
    `right` `(rank, units)`, given together. `added` `(units, width)` is a map of what the module reads rather than of
    its output (of the width of a row of its weight), the result of which is added.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None
    added: Tensor | None = None

    @property
    def mixes(self) -> bool:
        """Whether units flow into each other, so that only a module with a full row of weights a unit can take it."""
        return self.left is not None

    @property
    def moves(self) -> bool:
        """Whether it adds a constant, for which a module needs a bias."""
        return self.shift is not None

    def at_strength(self, strength: float) -> "Affine":
        """The map that goes `strength` of the way from the activation to what this map makes of it."""
        if strength == 1:
            return self
        return Affine(
            None if self.scale is None else 1 + strength * (self.scale - 1),
            None if self.shift is None else strength * self.shift,
            None if self.left is None else strength * self.left,
            self.right,
            None if self.added is None else strength * self.added,
        )

    def of_weight(self, weight: Tensor) -> Tensor:
        """The weights `(units, ...)` that make the mapped activation where `weight` made the activation."""
        rows = self._linear(_wide(weight).reshape(len(weight), -1))
        return (rows if self.added is None else rows + _wide(self.added)).reshape(weight.shape).to(weight)

    def of_bias(self, bias: Tensor) -> Tensor:
        """The bias `(units,)` that goes with `of_weight`."""
        moved = self._linear(_wide(bias).unsqueeze(1)).squeeze(1)
        return (moved if self.shift is None else moved + _wide(self.shift)).to(bias)

    def _linear(self, rows: Tensor) -> Tensor:
        mapped = rows if self.scale is None else _wide(self.scale)[:, None] * rows
        return mapped if self.left is None else mapped + _wide(self.left) @ (_wide(self.right) @ rows)


def _wide(tensor: Tensor) -> Tensor:
    # Rounded once, at the end, and on a device that knows float64.
    return tensor.detach().to("cpu", torch.float64)
