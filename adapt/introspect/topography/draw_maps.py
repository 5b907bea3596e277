"""Lay out the units of each site on a topographic map, from activation profiles."""

from collections.abc import Mapping, Sequence

from adapt.errors import InputError
from adapt.introspect.profiles.profiles import Profiles
from adapt.introspect.topography.align import align_layers
from adapt.introspect.topography.grid import grid_points
from adapt.introspect.topography.layouts import LAYOUTS
from adapt.introspect.topography.maps import TopographicMap
from adapt.introspect.topography.vectors import Array
from adapt.memory import check_memory
from interventions.sites import Site


def draw_maps(
    profiles: Sequence[Profiles],
    key: str,
    layout: str = "sorted_grid",
    min_steps: int = 20,
    seed: int = 0,
    cells: Mapping[str, Sequence[int]] | None = None,
) -> list[TopographicMap]:
    """Return a map of each site, each aligned with the previous one.

    Args:
        profiles: The profiles of one model, or of two; the first lays out the units.
        key: The key of the groups.
        layout: A name in `LAYOUTS`.
        min_steps: Groups with fewer steps at a site are left out.
        seed: The seed of the layout.
        cells: The learned grid cell of each unit, by site name; these sites are not laid out.

    Raises:
        InputError: No site has two groups with enough steps, or the layout fails.
    """
    largest = max(profiles[0].sites, key=lambda site: site.units)
    # Distances between all pairs of units, with copies in the layout and in the measures of quality.
    what = f"Distances between all {largest.units:,} units of '{largest.name}'"
    check_memory(4 * 8 * largest.units**2, what, "Give other sites.")
    maps: list[TopographicMap] = []
    for site in profiles[0].sites:
        groups = _common_groups(profiles, site, key, min_steps)
        if len(groups) < 2:
            continue
        # As in `nap`, the mean over groups is subtracted; values keep the units of activation.
        means = [each.mean(site, groups).double().numpy().T for each in profiles]
        first, *after = (mean - mean.mean(1, keepdims=True) for mean in means)
        names = tuple(group.partition(":")[2] for group in groups)
        learned = (cells or {}).get(site.name)
        if learned is not None:
            points = grid_points(site.units)[list(learned)]
        else:
            points = _layout(first, layout, seed)
            if maps and maps[-1].groups == names:
                points = align_layers(points, first, maps[-1].points, maps[-1].profiles, square=True)
        maps.append(TopographicMap(site.name, names, points, first, *after))
    if not maps:
        raise InputError(
            f"No site has two groups of '{key}' with at least {min_steps} steps. Give more data, or lower min_steps."
        )
    return maps


def _common_groups(profiles: Sequence[Profiles], site: Site, key: str, min_steps: int) -> list[str]:
    return [
        group
        for group in profiles[0].groups_of(key)
        if all(group in each.groups and each.steps(site, group) >= min_steps for each in profiles)
    ]


def _layout(profiles: Array, layout: str, seed: int) -> Array:
    try:
        return LAYOUTS[layout](profiles, seed)
    except ValueError as error:
        raise InputError(f"layout={layout}: {error}") from None
