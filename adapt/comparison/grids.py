"""Topographic smoothness: how similar neighbouring units are on the grids of a topographically trained model.

Each unit is compared with its eight neighbours, before and after training on the same grid, in two ways: Moran's I of
the activation profiles (do neighbours respond alike?) and the cosine of the weights (are their weights alike?). If
units were assigned to grid cells by their weights, a model is already somewhat smooth before training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adapt.comparison.neurons import common_groupings
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.subset import evenly
from adapt.errors import InputError
from adapt.introspect.profiles.read import read_profiles
from adapt.introspect.reading import learnable
from adapt.introspect.topography.draw_maps import draw_maps
from adapt.introspect.topography.loss import Neighbours
from adapt.introspect.topography.maps import TopographicMap
from adapt.introspect.topography.quality import morans_i
from adapt.introspect.topography.vectors import Array
from adapt.models.model import DecoderModel, Model
from interventions.hooks import module_at
from interventions.rows import full_weight
from interventions.sites import Site


@dataclass(frozen=True)
class SiteSmoothness:
    """The smoothness of one site, each value as (before, after).

    `neighbour_cosine` is the mean cosine of the weights of neighbouring units. `morans_i` is the mean over the groups
    of Moran's I of the activations: 0 by chance, 1 if neighbours respond equally. None if no step of the site belongs
    to a group.
    """

    site: str
    units: int
    neighbour_cosine: tuple[float, float]
    morans_i: tuple[float, float] | None


@dataclass(frozen=True)
class TopographicSmoothness:
    """The smoothness of all sites with a grid, from profiles over `group_by` groups on `examples` examples."""

    group_by: str
    examples: int
    sites: list[SiteSmoothness]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values by site name, for `metrics.json`."""
        sites = {}
        for row in self.sites:
            cosine_before, cosine_after = row.neighbour_cosine
            sites[row.site] = {
                "units": row.units,
                "neighbour_cosine": {"before": cosine_before, "after": cosine_after},
            }
            if row.morans_i is not None:
                sites[row.site]["morans_i"] = {"before": row.morans_i[0], "after": row.morans_i[1]}
        return {"group_by": self.group_by, "examples": self.examples, "sites": sites}


def measure_smoothness(
    before: Model,
    after: Model,
    cells: Mapping[str, Sequence[int]],
    examples: Sequence[Example],
    loader: Loader,
    max_examples: int = 100,
) -> TopographicSmoothness:
    """Measure the topographic smoothness of two models on the same grids.

    Args:
        before: The model before training.
        after: The model after training.
        cells: The grid cell of each unit, by site name.
        examples: The examples to profile both models on.
        loader: Makes batches of the examples.
        max_examples: The maximum number of examples to use, spread evenly over all of them.

    Returns:
        The smoothness of each site that both models have.

    Raises:
        InputError: The models share no site with a grid, or cannot read any of the examples.
    """
    units_before = {site.name: site.units for site in before.sites}
    sites = [s for s in after.sites if units_before.get(s.name) == s.units == len(cells.get(s.name, ()))]
    if not sites:
        raise InputError("None of the given grids fits a site that both models have.")
    chosen = evenly(examples, max_examples)
    if isinstance(after, DecoderModel):  # a decoder also reads the reference texts
        chosen = list(learnable(after, chosen))
    if not chosen:
        raise InputError("None of the examples has a reference text that the models can read.")
    group_by, groups = common_groupings(after, chosen, [""] * len(chosen))
    # The trained model is read first, because its forced alignment is reused for the untrained one.
    profiles_after, profiles_before = (
        read_profiles(model, chosen, loader, groups, sites).pooled() for model in (after, before)
    )
    try:
        maps = draw_maps([profiles_before, profiles_after], group_by, cells=cells)
    except InputError:  # no step of these sites belongs to a group
        maps = []
    morans = {drawn.name: _morans(drawn) for drawn in maps}
    rows = [
        SiteSmoothness(
            site.name,
            site.units,
            (_neighbour_cosine(before, site, cells), _neighbour_cosine(after, site, cells)),
            morans.get(site.name),
        )
        for site in sites
    ]
    return TopographicSmoothness(group_by, len(chosen), rows)


def _morans(drawn: TopographicMap) -> tuple[float, float]:
    assert drawn.after is not None  # the map was drawn from two models
    return _mean_morans_i(drawn.points, drawn.profiles), _mean_morans_i(drawn.points, drawn.after)


def _mean_morans_i(points: Array, profiles: Array) -> float:
    values = morans_i(points, profiles)
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


@torch.no_grad()
def _neighbour_cosine(model: Model, site: Site, cells: Mapping[str, Sequence[int]]) -> float:
    return float(Neighbours(site.units, cells=cells[site.name])(full_weight(module_at(model, site))))
