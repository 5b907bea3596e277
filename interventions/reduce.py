"""Reduce activations while `capture` reads them, in bounded memory: their `Mean`, or a `Reservoir` of them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from interventions.sites import Site


class Mean:
    """The mean activation of each unit, over all time steps of all examples.

    For example::

        mean = Mean()
        with capture(model, sites, reduce=mean, lengths=...):
            for batch in batches: model(batch)
        Ablate(neurons, "mean", mean.result())

    Sums are kept in float64, one number per unit.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {}

    def __call__(self, site: Site, x: Tensor) -> None:
        rows = x.detach().reshape(-1, site.units).double()
        self._sums[site.name] = self._sums.get(site.name, 0) + rows.sum(0)
        self._steps[site.name] = self._steps.get(site.name, 0) + len(rows)

    def merge(self, other: "Mean") -> "Mean":
        """Return the mean over the activations of this one and `other`, for instance from two processes."""
        both = Mean()
        for one in (self, other):
            for name, total in one._sums.items():
                both._sums[name] = both._sums.get(name, 0) + total.to(both._sums.get(name, total).device)
                both._steps[name] = both._steps.get(name, 0) + one._steps[name]
        return both

    def result(self) -> Mapping[str, Tensor]:
        """Return the means `(units,)` by site name, in float32. Raises ValueError if there were no activations."""
        if not self._sums or not all(self._steps.values()):
            raise ValueError("No activations were captured, so there is no mean.")
        return {name: (total / self._steps[name]).float() for name, total in self._sums.items()}


class Reservoir:
    """A uniform random sample of the activations of each site: `rows` rows `(units,)`, each from one time step.

    Every activation draws a random number, and the rows with the highest numbers are kept (reservoir sampling).
    """

    def __init__(self, rows: int, seed: int = 0) -> None:
        if rows < 1:
            raise ValueError(f"A reservoir keeps at least one row, got rows={rows}.")
        self._rows, self._generator = rows, torch.Generator().manual_seed(seed)
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(self, site: Site, x: Tensor) -> None:
        rows = x.detach().reshape(-1, site.units)
        drawn = torch.rand(len(rows), generator=self._generator, dtype=torch.float64)
        if site.name in self._kept:
            kept_numbers, kept_rows = self._kept[site.name]
            drawn, rows = torch.cat([kept_numbers, drawn]), torch.cat([kept_rows, rows])
        best = drawn.topk(min(self._rows, len(drawn))).indices
        self._kept[site.name] = drawn[best], rows[best.to(rows.device)]

    def result(self) -> Mapping[str, Tensor]:
        """Return the rows `(rows, units)` by site name, or fewer if fewer were captured.

        Raises:
            ValueError: If no activations were captured.
        """
        if not self._kept:
            raise ValueError("No activations were captured, so the reservoir is empty.")
        return {name: rows for name, (_, rows) in self._kept.items()}
