"""A codebook of residuals: what a linear map leaves of each correction, kept beside its key, and looked up by it.

After GRACE (Hartvigsen et al. 2023, "Aging with GRACE"), whose keys are single tokens and whose radii are hard. Here a
key is a frame or a decoder's position, projected to a few dimensions; its radius is a share of the distance to the
nearest protected key; and what it adds fades with the distance, so that what is close to a correction is close to
corrected.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_ELEMENTS = 1 << 22  # of a table of distances that is made at once


@dataclass(frozen=True, eq=False)
class Codebook:
    """`keys` `(number, dimensions)` with their `radii` `(number,)` and `values` `(number, units)`."""

    keys: Tensor
    radii: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.keys)

    def __call__(self, projected: Tensor) -> Tensor:
        """What is added at each step, `(..., units)`, of projected keys `(..., dimensions)`.

        It is the value of the nearest entry, times exp(-r^4) where that is r of its own radii away: its value at and
        around an entry's key, as rounding moves keys, and next to nothing at twice its radius.
        """
        flat = projected.reshape(-1, projected.shape[-1])
        scaled = 1 / self.radii.square()
        # |q - k|^2 / radius^2 = |q|^2 * scaled - 2 q (k * scaled) + |k|^2 * scaled: one product of matrices.
        left = torch.cat([flat.square().sum(1, keepdim=True), flat, torch.ones_like(flat[:, :1])], 1)
        right = torch.cat(
            [scaled[:, None], -2 * self.keys * scaled[:, None], (self.keys.square().sum(1) * scaled)[:, None]], 1
        )
        nearest = [(block @ right.T).min(1) for block in left.split(max(1, _ELEMENTS // max(1, len(right))))]
        near = torch.cat([one.values for one in nearest]).clamp_min(0)
        found = self.values[torch.cat([one.indices for one in nearest])]
        return (found * torch.exp(-near.square()).unsqueeze(1)).view(*projected.shape[:-1], -1)

    def to(self, device: torch.device) -> "Codebook":
        """The same on another device."""
        return Codebook(self.keys.to(device), self.radii.to(device), self.values.to(device))
