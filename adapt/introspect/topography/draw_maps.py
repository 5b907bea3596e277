"""Lay out the units of each site on a topographic map, from activation profiles."""

from collections.abc import Mapping, Sequence

import numpy as np

from adapt.errors import InputError
from adapt.introspect.profiles.profiles import Profiles
from adapt.introspect.topography.align import align_layers
from adapt.introspect.topography.grid import grid_points
from adapt.introspect.topography.layouts import LAYOUTS
from adapt.introspect.topography.maps import TopographicMap


def draw_maps(
    read: Sequence[Profiles],
    key: str,
    layout: str = "sorted_grid",
    least: int = 20,
    seed: int = 0,
    cells: Mapping[str, Sequence[int]] | None = None,
) -> list[TopographicMap]:
    """A map of each site from the profiles of one model, or of two: laid out by the first, each turned onto the last.

    Sites in `cells` are laid out already: there a unit's cell, by number, is its place.

    Raises:
        InputError: no site has two groups of at least `least` steps.
    """
    maps: list[TopographicMap] = []
    for site in read[0].sites:
        names = [g for g in read[0].of(key) if all(g in own.groups and own.steps(site, g) >= least for own in read)]
        if len(names) < 2:
            continue
        # As nap: each group's mean less the mean over groups, in the layer's own units.
        means = [own.mean(site, names).double().numpy().T for own in read]
        first, *others = (own - own.mean(1, keepdims=True) for own in means)
        try:
            known = (cells or {}).get(site.name)
            points = LAYOUTS[layout](first, seed) if known is None else grid_points(site.units)[list(known)]
        except ValueError as error:
            raise InputError(f"measure.layout={layout}: {error}") from None
        if known is None and maps and maps[-1].groups == tuple(name.partition(":")[2] for name in names):
            points = align_layers(points, first, maps[-1].points, maps[-1].profiles, square=True)
        short = [name.partition(":")[2] for name in names]
        maps.append(TopographicMap(site.name, np.array(short, dtype=object), points, first, *others))
    if not maps:
        raise InputError(f"No site has two groups of '{key}' with at least {least} steps. Give more data, or lower it.")
    return maps
