"""How far units that respond alike lie together on the grids that a model was laid out on while it trained.

Moran's I of what units do for each phoneme (letter, token) says it of what they do, the cosine of neighbours' weights
of what they are made of. Both are of the eight neighbours on the same grid, before training and after: what was laid
out by its weights alone has some order before.
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
from adapt.introspect.topography.quality import morans_i
from adapt.introspect.topography.vectors import Array
from adapt.models.model import DecoderModel, Model
from interventions.hooks import module_at
from interventions.rows import full_weight
from interventions.sites import Site


@dataclass(frozen=True)
class SiteOrder:
    """One site's order before and after: `alike`, the mean cosine of neighbours' weights, and Moran's I.

    `moran` is a mean over the groups: 0 where units lie anyhow, 1 where neighbours respond alike. None where no step
    of the site is of a group.
    """

    site: str
    units: int
    alike: tuple[float, float]
    moran: tuple[float, float] | None


@dataclass(frozen=True)
class Order:
    """The order of all sites that are on a grid, from `examples` examples; Moran's I is by `key` (phoneme, ...)."""

    key: str
    examples: int
    sites: list[SiteOrder]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `metrics.json`."""
        sites = {
            own.site: {"units": own.units}
            | {
                name: dict(zip(("before", "after"), values, strict=True))
                for name, values in (("alike", own.alike), ("moran", own.moran))
                if values is not None
            }
            for own in self.sites
        }
        return {"key": self.key, "examples": self.examples, "sites": sites}


def measure_smoothness(
    before: Model,
    after: Model,
    cells: Mapping[str, Sequence[int]],
    examples: Sequence[Example],
    loader: Loader,
    most: int = 100,
) -> Order:
    """Measure the order of two models on the grids `cells`, of at most `most` of the examples, spread evenly.

    Raises:
        InputError: there is no such site in both, or no example that the models can read.
    """
    theirs = {site.name: site.units for site in before.sites}
    sites = [s for s in after.sites if theirs.get(s.name) == s.units == len(cells.get(s.name, ()))]
    if not sites:
        raise InputError("No site of these models lies on a grid.")
    chosen = evenly(examples, most)
    if isinstance(after, DecoderModel):  # a decoder reads the references
        chosen = list(learnable(after, chosen))
    if not chosen:
        raise InputError("There is no example whose text the models can read.")
    key, groups = common_groupings(after, chosen, [""] * len(chosen))
    # The model after is read first: an alignment is its own, for the one before may not have learned anything yet.
    new, old = (read_profiles(model, chosen, loader, groups, sites).pooled() for model in (after, before))
    try:
        maps = draw_maps([old, new], key, cells=cells)
    except InputError:  # no step of these sites is of a group
        maps = []
    morans = {own.name: (_mean(own.points, own.profiles), _mean(own.points, own.after)) for own in maps}
    found = [
        SiteOrder(
            site.name, site.units, tuple(_alike(model, site, cells) for model in (before, after)), morans.get(site.name)
        )
        for site in sites
    ]
    return Order(key, len(chosen), found)


def _mean(points: Array, profiles: Array) -> float:
    values = morans_i(points, profiles)
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


@torch.no_grad()
def _alike(model: Model, site: Site, cells: Mapping[str, Sequence[int]]) -> float:
    return float(Neighbours(site.units, cells=cells[site.name])(full_weight(module_at(model, site))))
