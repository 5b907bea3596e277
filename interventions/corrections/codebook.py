"""A codebook of residuals: what a linear map leaves of each correction, kept beside its key, and looked up by it.

After GRACE (Hartvigsen et al. 2023, "Aging with GRACE"), whose keys are single tokens and whose radii are hard. Here a
key is a frame or a decoder's position, projected to a few dimensions; its radius is a share of the distance to the
nearest protected key; and what it adds fades with the distance, so that what is close to a correction is close to
corrected.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Queries are looked up in blocks of so many, and tables of scores made of so many elements: what a processor's cache
# takes, and what keeps an accelerator busy.
_QUERIES = 256
_ELEMENTS = {"cpu": 1 << 18}
_ELEMENTS_ELSEWHERE = 1 << 24


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
        place = self.nearest(flat)
        near = (flat - self.keys[place]).square().sum(1) / self.radii[place].square()
        return (self.values[place] * torch.exp(-near.square()).unsqueeze(1)).view(*projected.shape[:-1], -1)

    @torch.no_grad()
    def nearest(self, queries: Tensor) -> Tensor:
        """The number of the entry whose key is nearest, counted in its own radii, for each of `(queries, dimensions)`.

        All are looked at: whitened keys of many dimensions are all about as far from each other, so that no bound on
        distances leaves any out. What counts is that no table of scores leaves the cache, and that the minimum of each
        is taken without its place, which is many times as quick; the place is looked for in the best table alone.
        """
        if len(queries) > _QUERIES and queries.device.type == "cpu":
            return torch.cat([self.nearest(block) for block in queries.split(_QUERIES)])
        # |q - k|^2 / radius^2 = |q|^2 / radius^2 - 2 q k / radius^2 + |k|^2 / radius^2: one product of matrices.
        left = torch.cat([queries.square().sum(1, keepdim=True), queries, torch.ones_like(queries[:, :1])], 1)
        size = max(1, _ELEMENTS.get(queries.device.type, _ELEMENTS_ELSEWHERE) // max(1, len(queries)))
        tables = self._scores.split(size)
        if len(tables) == 1:
            return (left @ tables[0].T).argmin(1)
        best = torch.stack([(left @ table.T).amin(1) for table in tables]).argmin(0)
        place = torch.empty_like(best)
        for number in best.unique().tolist():
            (rows,) = torch.nonzero(best == number, as_tuple=True)
            place[rows] = number * size + (left[rows] @ tables[number].T).argmin(1)
        return place

    @cached_property
    def _scores(self) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            scaled = (1 / self.radii.square()).unsqueeze(1)
            return torch.cat([scaled, -2 * self.keys * scaled, self.keys.square().sum(1, keepdim=True) * scaled], 1)

    def to(self, device: torch.device) -> "Codebook":
        """The same on another device."""
        return Codebook(self.keys.to(device), self.radii.to(device), self.values.to(device))
