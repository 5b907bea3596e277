"""Learned topographic maps: units have fixed grid cells during training, and a loss makes neighbours similar.

After Krug & Stober (2019, "Visualizing Deep Neural Networks for Speech Recognition with Learned Topographic Filter
Maps", arXiv 1912.04067), for the filters of a convolutional recogniser. The loss compares weights, not activations,
which gives smoother maps and more robust models (arXiv 2508.00043).
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.introspect.topography.grid import grid_points, grid_size
from adapt.introspect.topography.vectors import Array
from interventions.rows import full_weight
from interventions.sites import Site


class TopographicLoss:
    """A loss that makes units in neighbouring grid cells similar.

        topography = TopographicLoss(model, sites, strength=1.0)
        loss = task.loss(model, batch) + topography()

    The loss of a site is the mean of `1 - cos(w_i, w_j)` over all pairs of units at most `radius` cells apart, weighted
    by one over their distance; `w_i` are the incoming weights of unit `i` without its bias. A call returns `strength`
    times the mean over sites: 0 if all units are the same and 1 without order, for layers of any size. The loss does
    not depend on the size of weights, on activations or on the batch, so it is the same in every process of DDP.
    Frozen units do not change, and the others become similar to them.

    A call costs about twenty passes over the weights and three times their memory; nothing grows with the square of the
    number of units. It is exact under autocast, and has first derivatives only.

    Args:
        model: The model.
        sites: Convolutions and linear layers of at least two units each, with weights that train.
        strength: The factor of the loss.
        radius: The largest distance of neighbours in cells; the default has eight neighbours.
        cells: The cell of each unit of a site, counted row by row, by site name; without it, unit `u` is in cell `u`.

    Raises:
        ValueError: There is no site, a site cannot be laid out, the cells are not on the grid or not distinct, or the
            strength or radius is too small.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        strength: float = 1.0,
        radius: float = 1.5,
        cells: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        if not sites:
            raise ValueError("There is no site to lay out. Give at least one.")
        if not (math.isfinite(strength) and strength >= 0 and radius >= 1):
            raise ValueError(f"strength must be at least 0 and radius at least 1 cell; got {strength} and {radius}.")
        self.strength, self.radius = strength, radius
        self._modules = {site.name: _module(model, site) for site in sites}
        cells = cells or {}
        self._grids = {site.name: Neighbours(site.units, radius, cells.get(site.name)) for site in sites}

    def __call__(self) -> Tensor:
        """Return the loss, a scalar with a gradient."""
        losses = [1 - self._grids[name](full_weight(module)) for name, module in self._modules.items()]
        return self.strength * torch.stack(losses).mean()

    @torch.no_grad()
    def smoothness(self) -> dict[str, float]:
        """Return the weighted mean cosine of neighbours by site name: 0 without order, 1 if all units are the same."""
        return {name: float(self._grids[name](full_weight(module))) for name, module in self._modules.items()}

    @property
    def cells(self) -> dict[str, list[int]]:
        """The cell of each unit, by site name."""
        return {name: grid.cells.tolist() for name, grid in self._grids.items()}

    def points(self, site: Site | str) -> Array:
        """Return the place of each unit of a site, `(units, 2)`, from 0 to 1. Raises KeyError for another site."""
        return self._grids[site if isinstance(site, str) else site.name].points


class Neighbours:
    """The similarity of neighbours on a grid. A call with weights `(units, ...)` returns their weighted mean cosine.

    Args:
        units: The number of units.
        radius: The largest distance of neighbours in cells.
        cells: The cell of each unit in `grid_size(units)`, counted row by row; None for cell `u` for unit `u`.

    Raises:
        ValueError: The cells are not distinct cells of the grid, one for each unit.
    """

    def __init__(self, units: int, radius: float = 1.5, cells: Sequence[int] | None = None) -> None:
        rows, columns = grid_size(units)
        self.cells = torch.arange(units) if cells is None else torch.as_tensor(list(cells), dtype=torch.long)
        used = self.cells.unique()
        if len(self.cells) != units or len(used) != units or not 0 <= int(used[0]) <= int(used[-1]) < rows * columns:
            raise ValueError(
                f"{units} units need {units} different cells of a {rows} x {columns} grid; got "
                f"{self.cells.tolist()[:20]}."
            )
        taken = torch.zeros(rows * columns, dtype=torch.bool)
        taken[self.cells] = True
        self.rows, self.columns = rows, columns
        self.shifts = [s for s in _shifts(radius) if s[0] < rows and abs(s[1]) < columns]
        self.weights = 0.0  # the sum over all pairs
        for down, right, nearness in self.shifts:
            one, other = _overlap(taken.view(rows, columns), down, right)
            self.weights += nearness * int((one & other).sum())

    @property
    def points(self) -> Array:
        """The place of each unit, `(units, 2)`, from 0 to 1."""
        return grid_points(len(self.cells))[self.cells.numpy(force=True)]

    def __call__(self, weight: Tensor) -> Tensor:
        self.cells = self.cells.to(weight.device)
        with torch.autocast(weight.device.type, enabled=False):  # 16 bits cannot resolve cosines near 1
            directions = F.normalize(weight.flatten(1).float() if weight.dtype.itemsize < 4 else weight.flatten(1))
            around = self._around(directions.detach())
            # Each pair counts twice, but only one side has a gradient each time: the gradient is that of half the sum.
            both = torch.dot(directions.flatten(), around.flatten())
            return (both - both.detach() / 2) / self.weights

    def _around(self, directions: Tensor) -> Tensor:
        """Return the weighted sum of the neighbours of each unit, `(units, ...)`."""
        # Empty cells hold zeros, which add nothing.
        cells = directions.new_zeros(self.rows * self.columns, directions.shape[1])
        cells = cells.index_copy_(0, self.cells, directions).view(self.rows, self.columns, -1)
        around = torch.zeros_like(cells)
        for down, right, nearness in self.shifts:
            first, second = _overlap(cells, down, right)
            sums_first, sums_second = _overlap(around, down, right)
            sums_first.add_(second, alpha=nearness)
            sums_second.add_(first, alpha=nearness)
        return around.flatten(0, 1)[self.cells]


def _module(model: nn.Module, site: Site) -> nn.Module:
    module = model.get_submodule(site.name)
    if not isinstance(module, (nn.Linear, nn.Conv1d)) or len(module.weight) != site.units:
        raise ValueError(
            f"'{site.name}' ({type(module).__name__}) is not a linear layer or convolution of {site.units} units. Only "
            "these can be laid out."
        )
    if site.units == 1:
        raise ValueError(f"'{site.name}' has only one unit. Leave it out.")
    if not full_weight(module).requires_grad:
        raise ValueError(f"The weight of '{site.name}' does not train. Leave it out, or let it train.")
    return module


def _shifts(radius: float) -> list[tuple[int, int, float]]:
    """Return the offsets of neighbours as rows down, columns right and one over the distance; each pair once."""
    reach = math.floor(radius)
    offsets = [(down, right) for down in range(reach + 1) for right in range(-reach, reach + 1)]
    return [
        (down, right, 1 / math.hypot(down, right))
        for down, right in offsets
        if (down > 0 or right > 0) and math.hypot(down, right) <= radius
    ]


def _overlap(cells: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """Return the cells of a grid that have a neighbour at this offset, and these neighbours."""
    rows, columns = cells.shape[:2]
    left, width = max(0, -right), columns - abs(right)
    return cells[: rows - down, left : left + width], cells[down:, left + right : left + right + width]
