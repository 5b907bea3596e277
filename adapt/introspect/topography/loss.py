"""Learned topographic filter maps: units that lie on a grid while they train, and are pulled towards their neighbours.

After Krug & Stober (2019, "Visualizing Deep Neural Networks for Speech Recognition with Learned Topographic Filter
Maps", arXiv 1912.04067), who did so for the filters of a convolutional recogniser. What is pulled together are weights,
not activations, which gives smoother maps and more robust models (arXiv 2508.00043).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.introspect.topography.grid import grid_points, grid_size
from adapt.introspect.topography.vectors import Array
from interventions.sites import UNIT_AXIS, Site


class TopographicLoss:
    """What to add to a training loss so that the units of some sites arrange themselves on a grid.

        topography = TopographicLoss(model, sites, strength=1.0)
        loss = task.loss(model, batch) + topography()

    Unit `u` of a site stays in cell `u` of its grid, row after row; `points(site)` are the places, for drawing. For a
    site, the loss is the mean of `1 - cos(w_i, w_j)` over all pairs of units at most `radius` cells apart, weighted by
    one over their distance, where `w_i` is all that unit `i` reads with, without its bias; the sites' mean times
    `strength` is what a call returns. 0 is all alike, 1 no order, whatever the size of a layer. It does not ask for
    small weights, nor for activations, and sees no batch: under DDP it is the same in every process.

    A call costs some twenty passes over the weights and three times their memory: nothing grows with the square of the
    units. It has first derivatives only. The default radius is the eight neighbours.

    Raises:
        ValueError: there is no site; a site's module is no convolution or linear map of so many units, two at least; a
            strength or radius is too small. When called: a weight does not train.
    """

    def __init__(self, model: nn.Module, sites: Sequence[Site], strength: float = 1.0, radius: float = 1.5) -> None:
        if not sites:
            raise ValueError("There is no site to lay out.")
        if not (math.isfinite(strength) and strength >= 0 and radius >= 1):
            raise ValueError(f"strength must be at least 0 and radius at least 1 cell; got {strength} and {radius}.")
        self.strength, self.radius = strength, radius
        self._modules = {site.name: _module(model, site) for site in sites}
        self._shifts = _shifts(radius)

    def __call__(self) -> Tensor:
        """The loss, a scalar with a gradient."""
        losses = []
        for name, module in self._modules.items():
            weight = module.weight
            if not weight.requires_grad:
                raise ValueError(
                    f"The weight of '{name}' does not train, or only some rows of it do, so that its units cannot be "
                    "laid out. Leave out the site, or train it whole."
                )
            losses.append(1 - self._alike(weight))
        return self.strength * torch.stack(losses).mean()

    @torch.no_grad()
    def alike(self) -> dict[str, float]:
        """The weighted mean cosine of neighbours, by site name: 0 without any order, 1 where all are alike."""
        return {name: float(self._alike(module.weight)) for name, module in self._modules.items()}

    def points(self, site: Site | str) -> Array:
        """Where each unit of a site lies, `(units, 2)`, from 0 to 1. Raises KeyError: the site is not one of these."""
        units = len(self._modules[site if isinstance(site, str) else site.name].weight)
        return grid_points(units)[:units]

    def _alike(self, weight: Tensor) -> Tensor:
        """The weighted mean cosine of neighbouring units, a scalar with a gradient."""
        directions = F.normalize(weight.flatten(1), dim=1)
        around, weights = self._around(directions.detach())
        # Each pair is in this sum twice, once from each side. The gradient of half of it is `around`: that of one side.
        both = torch.dot(directions.flatten(), around.flatten())
        return (both - both.detach() / 2) / weights

    def _around(self, directions: Tensor) -> tuple[Tensor, float]:
        """The weighted sum of each unit's neighbours, `(units, ...)`, and the weights of all pairs together."""
        units = len(directions)
        rows, columns = grid_size(units)
        # Cells without a unit hold zeros, which add nothing to the sum.
        cells = F.pad(directions, (0, 0, 0, rows * columns - units)).view(rows, columns, -1)
        taken = (torch.arange(rows * columns) < units).view(rows, columns)
        around, weights = torch.zeros_like(cells), 0.0
        for down, right, nearness in self._shifts:
            if down < rows and abs(right) < columns:
                here, there = _overlap(cells, down, right)
                sums_here, sums_there = _overlap(around, down, right)
                sums_here.add_(there, alpha=nearness)
                sums_there.add_(here, alpha=nearness)
                one, other = _overlap(taken, down, right)
                weights += nearness * int((one & other).sum())
        return around.flatten(0, 1)[:units], weights


def _module(model: nn.Module, site: Site) -> nn.Module:
    module = model.get_submodule(site.name)
    if not isinstance(module, tuple(UNIT_AXIS)) or len(module.weight) != site.units:
        raise ValueError(
            f"'{site.name}' ({type(module).__name__}) is no linear map or convolution of {site.units} units, and only "
            "their weights can be laid out."
        )
    if site.units == 1:
        raise ValueError(f"'{site.name}' has one unit, which has no neighbours. Leave it out.")
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
