"""Arrange the units of layers on a grid while they train, by a topographic loss (Krug & Stober 2019).

    loss of the task + strength * mean over sites of (1 - mean cosine of neighbouring units' weights)

The loss is in `adapt/introspect/topography/loss.py`. This file decides to which sites it applies and in which cell of
the grid each unit is; units never move to another cell. The cells are saved with the model as `topographic`, in the
header of its file or in `adaptation.json`.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from adapt.checks import check_choice, check_number
from adapt.errors import InputError
from adapt.files import is_file, read_json, write_json
from adapt.introspect.topography.cells import cells_by_weight, cells_from_text, cells_to_text
from adapt.introspect.topography.loss import TopographicLoss
from adapt.models.factors import factor_method
from adapt.models.model import Model
from interventions.hooks import module_at
from interventions.rows import full_weight
from interventions.sites import UNIT_AXIS, Site, choose_sites

log = logging.getLogger(__name__)
FEWEST = 9  # on a smaller grid, no unit has a neighbour on every side
Start = Literal["weights", "number"]


class Topographic:
    """The topographic term of the loss. Call `prepare` first: it assigns units to cells."""

    loss: TopographicLoss

    def __init__(
        self,
        model: Model,
        sites: Sequence[Site],
        strength: float,
        radius: float,
        start: Start,
        learned: Mapping[str, Sequence[int]],
    ) -> None:
        self.model, self.sites, self.strength, self.radius = model, sites, strength, radius
        self.start, self.learned = start, learned

    def __call__(self) -> Tensor:
        return self.loss()

    def prepare(self, folder: Path) -> None:
        """Assign each unit a cell, or read from `folder` the cells that an interrupted run assigned."""
        path = folder / "topographic.json"
        if is_file(path):
            cells = cells_from_text(read_json(path), path)
        else:
            cells = {site.name: self.learned.get(site.name) or self._start(site) for site in self.sites}
            write_json(path, cells_to_text(cells))
        self.loss = TopographicLoss(self.model, self.sites, self.strength, self.radius, cells)
        units, cosines = sum(site.units for site in self.sites), self.neighbour_cosines.values()
        log.info(
            "Arranging %d units at %d sites on grids. Mean cosine of neighbours by site: %s.",
            units, len(self.sites), ", ".join(f"{cosine:.2f}" for cosine in cosines),
        )  # fmt: skip

    @property
    def cells(self) -> dict[str, list[int]]:
        """The cell number of each unit, by site."""
        return self.loss.cells

    @property
    def neighbour_cosines(self) -> dict[str, float]:
        """The mean cosine of neighbouring units' weights, by site."""
        return self.loss.smoothness()

    def _start(self, site: Site) -> Sequence[int]:
        if self.start == "number":
            return range(site.units)
        return cells_by_weight(full_weight(module_at(self.model, site)))


def none(model: Model, learned: Any = None) -> None:
    """No grid."""


def grid(
    model: Model,
    strength: float = 1.0,
    sites: str | Sequence[str] | None = None,
    radius: float = 1.5,
    start: Start = "weights",
    learned: Mapping[str, Sequence[int]] | None = None,
) -> Topographic:
    """Create the topographic loss for the sites whose weights train, wholly or in some rows.

    The output layer is left out, because its units have a fixed meaning. So are layers of fewer than 9 units and layers
    whose weight is computed from other tensors (weight norm, factors of `tuning=lora`).

    Args:
        model: The model, with `requires_grad` set for training.
        strength: The weight of the loss. 0 is the control: grids are assigned and measured, but training is unchanged.
        sites: Globs over names of sites; None for all convolutions.
        radius: The distance in cells within which two units are neighbours; 1.5 gives eight neighbours.
        start: How units are assigned to cells: by the directions of their weights ("weights", linear assignment
            sorting) or in the order of their numbers ("number").
        learned: By site: the cells of the grid that the base was trained with. They take precedence over `start`.

    Returns:
        The loss.

    Raises:
        InputError: an option is out of range, or none of the sites trains.
    """
    check_number("strength", strength, minimum=0)
    check_number("radius", radius, minimum=1)
    check_choice("start", start, ("weights", "number"))
    if sites is not None and not (
        isinstance(sites, str) or (isinstance(sites, Sequence) and all(isinstance(one, str) for one in sites))
    ):
        raise InputError(f"sites must be a glob over names or a list of globs; got {sites!r}.")
    try:
        named = choose_sites(model.sites, "*" if sites is None else sites)
    except ValueError as error:
        raise InputError(f"sites: {error}") from None
    chosen = [site for site in named if (sites is not None or site.unit_axis == 1) and _trains(model, site)]
    if not chosen:
        kinds = "convolution" if sites is None else f"site that {sites!r} names"
        raise InputError(
            f"topographic=grid: no {kinds} below the output layer has {FEWEST} units or more and a weight that "
            "trains. Choose a tuning that trains one (full, layers or neurons), or name other sites, such as "
            "topographic.sites=['*.fc1']. `innertune sites` lists all sites."
        )
    return Topographic(model, chosen, float(strength), float(radius), start, learned or {})


def _trains(model: Model, site: Site) -> bool:
    module = module_at(model, site)
    parents = [model.get_submodule(site.name[:at]) for at, sign in enumerate(site.name) if sign == "."]
    if any(factor_method(parent) is not None for parent in parents):  # part of added factors, not a layer
        return False
    return (
        site.units >= FEWEST
        and bool(site.rows)
        and isinstance(module, tuple(UNIT_AXIS))
        and site != model.sites[-1]
        and full_weight(module).requires_grad
    )
