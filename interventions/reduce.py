"""Reduce activations as `capture` reads them: their `Mean`, or a `Sample` of them, in memory that does not grow."""

from collections.abc import Mapping

import torch
from torch import Tensor

from interventions.sites import Site


class Mean:
    """The mean activation of each unit, over all time steps of all examples.

        mean = Mean()
        with capture(model, sites, reduce=mean, lengths=...):
            for batch in batches: model(batch)
        Ablate(neurons, "mean", mean.result())

    Sums are in 64 bits, a number for each unit.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {}

    def __call__(self, site: Site, x: Tensor) -> None:
        rows = x.detach().reshape(-1, site.units).double()
        self._sums[site.name] = self._sums.get(site.name, 0) + rows.sum(0)
        self._steps[site.name] = self._steps.get(site.name, 0) + len(rows)

    def merge(self, other: "Mean") -> "Mean":
        """The mean over what both have seen, as where several processes go through a share each."""
        both = Mean()
        for one in (self, other):
            for name, total in one._sums.items():
                both._sums[name] = both._sums.get(name, 0) + total.to(both._sums.get(name, total).device)
                both._steps[name] = both._steps.get(name, 0) + one._steps[name]
        return both

    def result(self) -> Mapping[str, Tensor]:
        """The means, `(units,)` in 32 bits by site name. Raises ValueError where nothing was seen."""
        if not self._sums or not all(self._steps.values()):
            raise ValueError("There is no mean of nothing: no activation has come.")
        return {name: (total / self._steps[name]).float() for name, total in self._sums.items()}


class Sample:
    """`rows` activations of each site, each the units at one time step, drawn evenly from all that come.

    Each activation draws a number, and those with the highest are kept, so that any of them is as likely as another.
    Draws follow from `seed`.
    """

    def __init__(self, rows: int, seed: int = 0) -> None:
        if rows < 1:
            raise ValueError(f"A sample has at least one row, got rows={rows}.")
        self._rows, self._draw = rows, torch.Generator().manual_seed(seed)
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(self, site: Site, x: Tensor) -> None:
        rows = x.detach().reshape(-1, site.units)
        drawn = torch.rand(len(rows), generator=self._draw, dtype=torch.float64)
        if site.name in self._kept:
            before, kept = self._kept[site.name]
            drawn, rows = torch.cat([before, drawn]), torch.cat([kept, rows])
        best = drawn.topk(min(self._rows, len(drawn))).indices
        self._kept[site.name] = drawn[best], rows[best.to(rows.device)]

    def result(self) -> Mapping[str, Tensor]:
        """The rows, `(rows, units)` by site name; fewer where fewer came. Raises ValueError where nothing was seen."""
        if not self._kept:
            raise ValueError("There is no sample of nothing: no activation has come.")
        return {name: rows for name, (_, rows) in self._kept.items()}
