"""A comparison of groups as plain rows: one for each layer, one for each diverging neuron."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

from adapt.introspect.bias.comparisons import Comparison
from adapt.introspect.bias.divergence import Divergence, distance_interval
from adapt.introspect.profiles.jackknife import student_quantile
from interventions.sites import Site

TOP_CONTENTS = 3  # contents that are listed for a neuron
Interval = tuple[float, float]


@dataclass(frozen=True)
class ContentDifference:
    """The mean of the group minus that of the reference within a content, in standard deviations of single steps."""

    content: str
    difference: float


@dataclass(frozen=True)
class LayerDivergence:
    """The divergence of a group at a site.

    Args:
        site: The name of the site.
        units: The number of neurons.
        diverging: The number of neurons that diverge.
        error_linked: The number of diverging neurons that are linked to errors.
        distance: The root mean square of the distances of its neurons, in standard deviations of single steps.
        interval: The 95 % confidence interval of the distance.
        contents: The number of contents within which the groups are compared.
        content: The key of the contents, "all" for all steps together.
        coverage: The share of the steps of the group that have these contents.
    """

    site: str
    units: int
    diverging: int
    error_linked: int
    distance: float
    interval: Interval
    contents: int
    content: str
    coverage: float


@dataclass(frozen=True)
class NeuronDivergence:
    """The divergence of a group at a neuron, in standard deviations of single steps.

    Args:
        site: The name of the site.
        unit: The number of the neuron.
        distance: The distance of the groups.
        interval: The 95 % confidence interval of the distance.
        q_value: The lowest false discovery rate at which the neuron diverges.
        shift: How much more active the neuron is in the group than in the reference, as a weighted mean over contents.
        shift_interval: The 95 % confidence interval of the shift.
        top_contents: The contents with the largest weighted differences.
        error_correlation: The correlation of its projection with errors. This and the following are None if links with
            errors were not computed.
        error_interval: The 95 % confidence interval of the correlation.
        error_q_value: The lowest false discovery rate at which the neuron is linked to errors.
        error_linked: Whether the neuron is linked to errors.
        excess_at_errors: How much larger the projection is at wrong steps than at correct ones, as a share of the
            distance of the groups; None if unknown.
        excess_interval: The 95 % confidence interval of the excess.
    """

    site: str
    unit: int
    distance: float
    interval: Interval
    q_value: float
    shift: float
    shift_interval: Interval
    top_contents: tuple[ContentDifference, ...]
    error_correlation: float | None = None
    error_interval: Interval | None = None
    error_q_value: float | None = None
    error_linked: bool | None = None
    excess_at_errors: float | None = None
    excess_interval: Interval | None = None


def layer_rows(comparison: Comparison) -> tuple[LayerDivergence, ...]:
    """Return a row for each site."""
    return tuple(_layer_row(comparison, site, divergence) for site, divergence in comparison.divergences.items())


def neuron_rows(comparison: Comparison) -> tuple[NeuronDivergence, ...]:
    """Return a row for each diverging neuron: those linked to errors first, then by decreasing distance."""
    diverging, linked = comparison.diverging, comparison.error_linked
    neurons = [(site, unit) for site in diverging.used for unit in diverging[site]]
    neurons.sort(
        key=lambda at: (
            (at[0].name, at[1]) not in linked,
            -float(comparison.divergences[at[0]].squared_distance[at[1]]),
        )
    )
    return tuple(_neuron_row(comparison, site, unit) for site, unit in neurons)


def _layer_row(comparison: Comparison, site: Site, divergence: Divergence) -> LayerDivergence:
    linked = comparison.error_linked
    return LayerDivergence(
        site=site.name,
        units=site.units,
        diverging=len(comparison.diverging[site]),
        error_linked=len(linked[site]) if site in linked.sites else 0,
        distance=max(0.0, divergence.overall[0]) ** 0.5,
        interval=distance_interval(*divergence.overall, divergence.degrees_of_freedom),
        contents=len(divergence.contents),
        content=divergence.contents[0].partition(":")[0],
        coverage=divergence.coverage,
    )


def _neuron_row(comparison: Comparison, site: Site, unit: int) -> NeuronDivergence:
    divergence = comparison.divergences[site]
    size = divergence.weights.sqrt() * divergence.difference[:, unit].abs()
    top = size.topk(min(TOP_CONTENTS, len(divergence.contents))).indices.tolist()
    return NeuronDivergence(
        site=site.name,
        unit=unit,
        distance=float(divergence.distance[unit]),
        interval=divergence.interval(unit),
        q_value=float(comparison.q[site][unit]),
        shift=float(divergence.shift[unit]),
        shift_interval=divergence.shift_interval(unit),
        top_contents=tuple(
            ContentDifference(content_name(divergence.contents[place]), float(divergence.difference[place, unit]))
            for place in top
        ),
        **_link_values(comparison, site, unit),
    )


def _link_values(comparison: Comparison, site: Site, unit: int) -> dict[str, Any]:
    if site not in comparison.links:
        return {}
    link = comparison.links[site]
    values: dict[str, Any] = {
        "error_correlation": float(link.correlation[unit]),
        "error_interval": link.interval(unit),
        "error_q_value": float(comparison.link_q[site][unit]),
        "error_linked": (site.name, unit) in comparison.error_linked,
    }
    excess, error = float(link.excess[unit]), float(link.excess_error[unit])
    if isfinite(excess) and isfinite(error):
        half = student_quantile(0.975, comparison.divergences[site].degrees_of_freedom) * error
        values |= {"excess_at_errors": excess, "excess_interval": (excess - half, excess + half)}
    return values


def content_name(content: str) -> str:
    """Return the name of a content without its key."""
    return content.partition(":")[2] or content
