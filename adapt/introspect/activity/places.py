"""Give the neurons of layers places on maps, and pool the maps of large layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapt.introspect.topography.align import align_layers
from adapt.introspect.topography.grid import cells_of, grid_size, onto_grid
from adapt.introspect.topography.layouts import sorted_grid
from adapt.introspect.topography.vectors import Array

MOST = 1024  # cells of a map; larger layers have several neurons in a cell
BINS = 64


@dataclass(frozen=True)
class Places:
    """The cells of a layer's map.

    Attributes:
        rows, columns: The size of the grid.
        cells: The cell of each unit, counted row by row.
    """

    rows: int
    columns: int
    cells: tuple[int, ...]

    @property
    def pooled(self) -> bool:
        """Whether a cell can have several units."""
        return len(self.cells) > MOST

    def pool(self, values: Tensor) -> Tensor:
        """Return the mean of the units in each cell, `(steps, rows * columns)`, from `(steps, units)`."""
        cells = torch.tensor(self.cells)
        count = cells.bincount(minlength=self.rows * self.columns).clamp_min(1)
        total = values.new_zeros(len(values), self.rows * self.columns).index_add_(1, cells, values)
        return total / count


def responses(values: Sequence[Tensor]) -> Array:
    """Return how units respond over time, `(units, bins)`, from activations `(steps, units)` of several examples.

    Each unit is standardised over all steps, and averaged in at most `BINS` stretches of time.
    """
    joined = torch.cat(list(values)).double()
    joined = (joined - joined.mean(0)) / joined.std(0, correction=0).clamp_min(1e-9)
    bins = torch.linspace(0, min(len(joined), BINS), len(joined) + 1, dtype=torch.float64)[:-1].long()
    means = joined.new_zeros(int(bins.max()) + 1, joined.shape[1]).index_add_(0, bins, joined)
    return (means / bins.bincount().unsqueeze(1)).T.numpy()


def places_of(
    profiles: Mapping[str, Array], learned: Mapping[str, Sequence[int]] | None = None, seed: int = 0
) -> dict[str, Places]:
    """Lay out the units of layers, so that neighbours respond alike; each map is turned to that of the layer before.

    Args:
        profiles: For each site, from input to output, a row for each unit: `responses`, or profiles by group.
        learned: The grid on which a site was trained (`adapt.introspect.topography.cells`), which it keeps.
        seed: The seed of the layout.
    """
    found: dict[str, Places] = {}
    last: tuple[Array, Array] | None = None
    for name, values in profiles.items():
        units = len(values)
        if units > MOST:
            found[name] = Places(*grid_size(MOST), tuple(_strips(values)))
            continue
        cells = list((learned or {}).get(name, ()))
        if len(cells) != units:
            points = sorted_grid(values, seed)
            if last is not None and last[1].shape[1] == values.shape[1]:
                # A quarter turn moves an incomplete last row, so units are given cells once more.
                points = onto_grid(align_layers(points, values, *last, square=True))
            last, cells = (points, values), cells_of(points)
        found[name] = Places(*grid_size(units), tuple(cells))
    return found


def _strips(values: Array) -> list[int]:
    """Return a cell for each of many units: columns by the first principal component, rows by the second.

    Sorting takes a second for 20,000 units, where an assignment of cells would take minutes.
    """
    rows, columns = grid_size(MOST)
    centred = values - values.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(values), 2))
    points[:, : min(2, len(sizes))] = (left * sizes)[:, :2]
    cells = np.empty(len(values), dtype=int)
    for column, own in enumerate(np.array_split(np.argsort(points[:, 0], kind="stable"), columns)):
        for row, units in enumerate(np.array_split(own[np.argsort(points[own, 1], kind="stable")], rows)):
            cells[units] = row * columns + column
    return cells.tolist()
