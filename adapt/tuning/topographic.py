"""Layers that are laid out on a grid while they train: a topographic loss beside the task's (Krug & Stober 2019).

    loss of the task + strength * mean over sites of (1 - mean cosine of neighbouring units' weights)

`adapt/introspect/topography/loss.py` has the loss. Here is which sites it is for, and which cell each unit starts in,
and stays in. The cells go with the model, in its file's header or its `adaptation.json`, as `topographic`.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from adapt.errors import InputError
from adapt.files import write_json
from adapt.introspect.topography.cells import cells_by_weight, cells_from_text, cells_to_text
from adapt.introspect.topography.loss import TopographicLoss
from adapt.models.model import Model
from interventions.hooks import module_at
from interventions.rows import full_weight
from interventions.sites import UNIT_AXIS, Site, choose_sites

log = logging.getLogger(__name__)
FEWEST = 9  # on a smaller grid no unit has a neighbour on each side
Start = Literal["weights", "number"]


class Topographic:
    """Called, the loss to add, a scalar. `prepare` gives the units their cells first."""

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
        """Give each unit its cell, or read from `folder` which it was given before, by a run that is resumed."""
        path = folder / "topographic.json"
        if path.is_file():
            cells = cells_from_text(json.loads(path.read_text(encoding="utf-8")), path)
        else:
            cells = {site.name: self.learned.get(site.name) or self._start(site) for site in self.sites}
            write_json(path, cells_to_text(cells))
        self.loss = TopographicLoss(self.model, self.sites, self.strength, self.radius, cells)
        log.info(
            "Laying out %d units at %d sites on grids; neighbours' cosine is %s.",
            sum(site.units for site in self.sites), len(self.sites), ", ".join(f"{a:.2f}" for a in self.alike.values()),
        )  # fmt: skip

    @property
    def cells(self) -> dict[str, list[int]]:
        """The cell of each unit, by site."""
        return self.loss.cells

    @property
    def alike(self) -> dict[str, float]:
        """The mean cosine of neighbours, by site."""
        return self.loss.smoothness()

    def _start(self, site: Site) -> Sequence[int]:
        if self.start == "number":
            return range(site.units)
        return cells_by_weight(full_weight(module_at(self.model, site)))


def none(model: Model, learned: Any = None) -> None:
    """No site is laid out."""


def grid(
    model: Model,
    strength: float = 1.0,
    sites: str | Sequence[str] | None = None,
    radius: float = 1.5,
    start: Start = "weights",
    learned: Mapping[str, Sequence[int]] | None = None,
) -> Topographic:
    """Lay out those of the sites (globs; None: all convolutions) of which all or some rows train.

    The output layer is never one: what its units are is written in the alphabet. Nor is a layer of fewer than 9 units,
    or one whose weight is computed from others (weight norm, factors of `tuning=lora`).

    Units start where `learned` says, which is the base's own grids; else where their weights put them (`start`
    "weights": linear assignment sorting of their directions), so that as little as can be has to change, or in the
    order of their numbers ("number"). `strength` 0 pulls at nothing, and is measured all the same: the twin.

    Raises:
        InputError: an option is none, or of these sites none trains.
    """
    for name, value, least in (("strength", strength, 0), ("radius", radius, 1)):
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value < float("inf"):
            raise InputError(f"topographic.{name} is a number of at least {least}; got {value!r}.")
    if start not in ("weights", "number"):
        raise InputError(f"topographic.start must be weights or number; got {start!r}.")
    if sites is not None and not (
        isinstance(sites, str) or (isinstance(sites, Sequence) and all(isinstance(one, str) for one in sites))
    ):
        raise InputError(f"topographic.sites is a glob over names, or a list of them; got {sites!r}.")
    try:
        named = choose_sites(model.sites, "*" if sites is None else sites)
    except ValueError as error:
        raise InputError(f"topographic.sites: {error}") from None
    chosen = [site for site in named if (sites is not None or site.unit_axis == 1) and _trains(model, site)]
    if not chosen:
        kinds = "convolution" if sites is None else f"site that {sites!r} names"
        raise InputError(
            f"topographic=grid: there is no {kinds} with {FEWEST} units or more, below the output layer, whose own "
            "weight trains, in whole or in rows. Let it train by tuning=full, layers or neurons, or name others: "
            "topographic.sites=['*.fc1']; innertune sites lists them."
        )
    return Topographic(model, chosen, float(strength), float(radius), start, learned or {})


def _trains(model: Model, site: Site) -> bool:
    module = module_at(model, site)
    parents = [model.get_submodule(site.name[:at]) for at, sign in enumerate(site.name) if sign == "."]
    if any(hasattr(parent, "made_by") for parent in parents):  # a factor (adapt/models/factors.py), and no layer
        return False
    return (
        site.units >= FEWEST
        and bool(site.rows)
        and isinstance(module, tuple(UNIT_AXIS))
        and site != model.sites[-1]
        and full_weight(module).requires_grad
    )
