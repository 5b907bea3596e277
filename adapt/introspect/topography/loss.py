"""Learned topographic filter maps: units that lie on a grid while they train, and are pulled towards their neighbours.

After Krug & Stober (2019, "Visualizing Deep Neural Networks for Speech Recognition with Learned Topographic Filter
Maps", arXiv 1912.04067), who did so for the filters of a convolutional recogniser. What is pulled together are weights,
not activations, which gives smoother maps and more robust models (arXiv 2508.00043).
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.introspect.topography.grid import grid_points, grid_size
from adapt.introspect.topography.vectors import Array
from interventions.rows import full_weight
from interventions.sites import UNIT_AXIS, Site


class TopographicLoss:
    """What to add to a training loss so that the units of some sites arrange themselves on a grid.

        topography = TopographicLoss(model, sites, strength=1.0)
        loss = task.loss(model, batch) + topography()

    Each unit stays in its cell of its site's grid: unit `u` in cell `cells[name][u]`, counted row after row, and in
    cell `u` where nothing is said. `points(site)` are the places, for drawing. For a site, the loss is the mean of
    `1 - cos(w_i, w_j)` over all pairs of units at most `radius` cells apart, weighted by one over their distance, where
    `w_i` is all that unit `i` reads with, without its bias; the sites' mean times `strength` is what a call returns. 0
    is all alike, 1 no order, whatever the size of a layer. It does not ask for small weights, nor for activations, and
    sees no batch: under DDP it is the same in every process. Of units that do not train, it pulls the others to these.

    A call costs some twenty passes over the weights and three times their memory: nothing grows with the square of the
    units. It is as exact under autocast, has first derivatives only, and the default radius is the eight neighbours.

    Raises:
        ValueError: there is no site; a site's module is no convolution or linear map of so many units, two at least,
            or nothing of its weight trains; cells are not one of the grid for each unit; a strength or radius is too
            small.
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
            raise ValueError("There is no site to lay out.")
        if not (math.isfinite(strength) and strength >= 0 and radius >= 1):
            raise ValueError(f"strength must be at least 0 and radius at least 1 cell; got {strength} and {radius}.")
        self.strength, self.radius = strength, radius
        self._modules = {site.name: _module(model, site) for site in sites}
        cells = cells or {}
        self._grids = {site.name: Neighbours(site.units, radius, cells.get(site.name)) for site in sites}

    def __call__(self) -> Tensor:
        """The loss, a scalar with a gradient."""
        losses = [1 - self._grids[name](full_weight(module)) for name, module in self._modules.items()]
        return self.strength * torch.stack(losses).mean()

    @torch.no_grad()
    def alike(self) -> dict[str, float]:
        """The weighted mean cosine of neighbours, by site name: 0 without any order, 1 where all are alike."""
        return {name: float(self._grids[name](full_weight(module))) for name, module in self._modules.items()}

    @property
    def cells(self) -> dict[str, list[int]]:
        """The cell of each unit, by site name."""
        return {name: grid.cells.tolist() for name, grid in self._grids.items()}

    def points(self, site: Site | str) -> Array:
        """Where each unit of a site lies, `(units, 2)`, from 0 to 1. Raises KeyError: the site is not one of these."""
        return self._grids[site if isinstance(site, str) else site.name].points


class Neighbours:
    """How alike neighbours on a grid are: called with `(units, ...)`, the weighted mean cosine, a scalar with gradient.

    Unit `u` is in cell `cells[u]`, counted row after row. Raises ValueError where these are not one of
    `grid_size(units)`'s for each unit.
    """

    def __init__(self, units: int, radius: float = 1.5, cells: Sequence[int] | None = None) -> None:
        rows, columns = grid_size(units)
        self.cells = torch.arange(units) if cells is None else torch.as_tensor(list(cells), dtype=torch.long)
        there = self.cells.unique()
        if len(self.cells) != units or len(there) != units or not 0 <= int(there[0]) <= int(there[-1]) < rows * columns:
            raise ValueError(f"{units} units need a cell each of {rows} x {columns}; got {self.cells.tolist()[:20]}.")
        taken = torch.zeros(rows * columns, dtype=torch.bool)
        taken[self.cells] = True
        self.rows, self.columns = rows, columns
        self.shifts = [s for s in _shifts(radius) if s[0] < rows and abs(s[1]) < columns]
        self.weights = 0.0  # of all pairs together
        for down, right, nearness in self.shifts:
            one, other = _overlap(taken.view(rows, columns), down, right)
            self.weights += nearness * int((one & other).sum())

    @property
    def points(self) -> Array:
        """Where each unit lies, `(units, 2)`, from 0 to 1."""
        return grid_points(len(self.cells))[self.cells.numpy(force=True)]

    def __call__(self, weight: Tensor) -> Tensor:
        self.cells = self.cells.to(weight.device)
        with torch.autocast(weight.device.type, enabled=False):  # cosines near 1 would all be alike in 16 bits
            directions = F.normalize(weight.flatten(1).float() if weight.dtype.itemsize < 4 else weight.flatten(1))
            around = self._around(directions.detach())
            # Each pair is in this sum twice, once from each side. The gradient of half of it is `around`: that of one
            # side.
            both = torch.dot(directions.flatten(), around.flatten())
            return (both - both.detach() / 2) / self.weights

    def _around(self, directions: Tensor) -> Tensor:
        """The weighted sum of each unit's neighbours, `(units, ...)`."""
        # Cells without a unit hold zeros, which add nothing to the sum.
        cells = directions.new_zeros(self.rows * self.columns, directions.shape[1])
        cells = cells.index_copy_(0, self.cells, directions).view(self.rows, self.columns, -1)
        around = torch.zeros_like(cells)
        for down, right, nearness in self.shifts:
            here, there = _overlap(cells, down, right)
            sums_here, sums_there = _overlap(around, down, right)
            sums_here.add_(there, alpha=nearness)
            sums_there.add_(here, alpha=nearness)
        return around.flatten(0, 1)[self.cells]


def _module(model: nn.Module, site: Site) -> nn.Module:
    module = model.get_submodule(site.name)
    if not isinstance(module, tuple(UNIT_AXIS)) or len(module.weight) != site.units:
        raise ValueError(
            f"'{site.name}' ({type(module).__name__}) is no linear map or convolution of {site.units} units, and only "
            "their weights can be laid out."
        )
    if site.units == 1:
        raise ValueError(f"'{site.name}' has one unit, which has no neighbours. Leave it out.")
    if not full_weight(module).requires_grad:
        raise ValueError(f"Nothing of the weight of '{site.name}' trains, so that it cannot be laid out. Leave it out.")
    return module


def _shifts(radius: float) -> list[tuple[int, int, float]]:
    """Half of the ways to cells within the radius, for each pair is met once: rows down, columns right, nearness."""
    reach = math.floor(radius)
    ways = [(down, right) for down in range(reach + 1) for right in range(-reach, reach + 1)]
    return [
        (down, right, 1 / math.hypot(down, right))
        for down, right in ways
        if (down > 0 or right > 0) and math.hypot(down, right) <= radius
    ]


def _overlap(cells: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """The part of a grid that has a cell this way from it, and those cells."""
    rows, columns = cells.shape[:2]
    left, width = max(0, -right), columns - abs(right)
    return cells[: rows - down, left : left + width], cells[down:, left + right : left + right + width]
