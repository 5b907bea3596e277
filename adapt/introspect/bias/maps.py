"""Topographic maps of diverging layers: the activation of the reference and of the group, for each content."""

from collections.abc import Sequence

from adapt.formatting import short_names
from adapt.introspect.bias.comparisons import Comparison
from adapt.introspect.bias.rows import content_name
from adapt.introspect.topography.layouts import sorted_grid
from adapt.introspect.topography.maps import TopographicMap

MAX_MAPS = 3


def divergence_maps(comparisons: Sequence[Comparison]) -> tuple[TopographicMap, ...]:
    """Return a map for each of the first `MAX_MAPS` comparisons with diverging neurons: that of its top site.

    `profiles` of a map are those of the reference, `after` those of the group.
    """
    names = list(dict.fromkeys(site.name for each in comparisons for site in each.divergences))
    short = dict(zip(names, short_names(names), strict=True))
    maps = []
    for comparison in [each for each in comparisons if len(each.diverging)][:MAX_MAPS]:
        divergence = comparison.divergences[comparison.top_site]
        # As in a profile, the mean over contents is subtracted. Both sides use that of the reference, to keep shifts.
        group, reference = (divergence.means / divergence.spread).double().numpy()
        centre = reference.mean(0)
        profiles = (reference - centre).T
        try:
            points = sorted_grid(profiles, 0)
        except ValueError:  # the profiles cannot be laid out
            continue
        label = f"{short[comparison.top_site.name]}, {comparison.group}"
        contents = [content_name(content) for content in divergence.contents]
        maps.append(TopographicMap(label, contents, points, profiles, (group - centre).T))
    return tuple(maps)
