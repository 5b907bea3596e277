"""A codebook of residuals: the part of each correction that the ridge map misses, looked up by the nearest key.

After GRACE (Hartvigsen et al. 2023, "Aging with GRACE"), whose keys are single tokens with hard radii. Here a key is a
frame or a decoder position, projected to a few dimensions; its radius is a share of the distance to the nearest
protected key; and its value fades with the distance, so that inputs near a correction are nearly corrected.
"""

# Tensor.split, unique and tolist have no complete annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Number of queries to look up at once, and of elements in a table of scores: small enough for a CPU's cache, or large
# enough to keep an accelerator busy.
_QUERIES = 256
_ELEMENTS = {"cpu": 1 << 18}
_ELEMENTS_ELSEWHERE = 1 << 24


@dataclass(frozen=True, eq=False)
class Codebook:
    """Values that are added to the layer's outputs at keys near stored ones.

    Args:
        keys: `(number, dimensions)`, one projected key per entry.
        radii: `(number,)`, radius of each entry, in the space of the projected keys.
        values: `(number, units)`, what each entry adds.
    """

    keys: Tensor
    radii: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.keys)

    def __call__(self, projected: Tensor) -> Tensor:
        """Return what to add to the layer's outputs, `(..., units)`, at projected keys `(..., dimensions)`.

        This is the value of the nearest entry times exp(-r^4), where r is the distance divided by the entry's radius:
        the full value close to the entry's key, so that rounding does no harm, and almost nothing at twice the radius.
        """
        flat = projected.reshape(-1, projected.shape[-1])
        place = self.nearest(flat)
        near = (flat - self.keys[place]).square().sum(1) / self.radii[place].square()
        return (self.values[place] * torch.exp(-near.square()).unsqueeze(1)).view(*projected.shape[:-1], -1)

    @torch.no_grad()
    def nearest(self, queries: Tensor) -> Tensor:
        """Return the index of the entry nearest to each query `(queries, dimensions)`, relative to the entry's radius.

        The search is exhaustive, because distances between whitened keys of many dimensions are too similar for bounds
        to exclude any. It is fast because each table of scores fits into the cache, and because minima are computed
        without their indices first; the index is then looked up in the best table only.
        """
        if len(queries) > _QUERIES and queries.device.type == "cpu":
            return torch.cat([self.nearest(block) for block in queries.split(_QUERIES)])
        # |q - k|^2 / radius^2 = |q|^2 / radius^2 - 2 q k / radius^2 + |k|^2 / radius^2 is one matrix product.
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
        """Return the codebook on another device."""
        return Codebook(self.keys.to(device), self.radii.to(device), self.values.to(device))
