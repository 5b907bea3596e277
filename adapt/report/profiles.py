"""The page of profiles: the variance that groups explain in each layer, and the neurons selective for each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from markupsafe import Markup

from adapt.files import write_text
from adapt.introspect.profiles.tree import Tree, average_linkage
from adapt.report.line_chart import Curve, line_chart
from adapt.report.png import data_url, diverging
from adapt.report.template import environment

if TYPE_CHECKING:
    from adapt.introspect.profiles.result import ProfilesResult
    from interventions.sites import Site

MAX_SITES = 12
MAX_UNITS = 400  # the most neurons drawn per site
LIMIT = 1.5  # the ends of the colour scale, in standard deviations; the same in every image
_STYLES = ("validation", "second", "third", "training")
# The layout of a heat map, in SVG units: the left and right end of the columns, the right edge, the height of a row.
_LEFT, _RIGHT, _END, _ROW = 92, 872, 980, 13


def write_profiles(path: Path, result: ProfilesResult, title: str, config: str = "") -> None:
    """Write the page of profiles, atomically.

    Args:
        path: The HTML file.
        result: The result to draw.
        title: The heading of the page.
        config: The configuration of the run as YAML, shown at the end of the page.
    """
    sites = drawn_sites(result)
    keys = [key for key in result.profiles.keys if result.top_neurons[key]]
    template = environment().get_template("profiles.html.j2")
    page = template.render(
        title=title,
        summary=result.summary,
        config=config,
        example_name=result.example_name,
        curves=_curves(result, sites),
        names=[result.short_names[site.name] for site in sites],
        sections=[_section(result, key, sites) for key in keys],
        scale=_scale(),
        limit=LIMIT,
        max_units=MAX_UNITS,
        min_steps=result.min_steps,
        left_out=len(result.profiles.sites) - len(sites),
        windows=bool(result.profiles.windows),
    )
    write_text(path, page)


def drawn_sites(result: ProfilesResult) -> list[Site]:
    """Return the sites of the model's layers (all sites if there are none), at most `MAX_SITES`, evenly spaced."""
    sites = [site for site in result.profiles.sites if site.name in result.layers] or list(result.profiles.sites)
    if len(sites) <= MAX_SITES:
        return sites
    places = [round(n * (len(sites) - 1) / (MAX_SITES - 1)) for n in range(MAX_SITES)]
    return [sites[place] for place in places]


def _curves(result: ProfilesResult, sites: Sequence[Site]) -> Markup | None:
    lines = [
        Curve(
            key.replace("_", " "),
            _STYLES[n % len(_STYLES)],
            {float(place): 100 * shares[site.name] for place, site in enumerate(sites) if site.name in shares},
        )
        for n, (key, shares) in enumerate(result.explained_variance.items())
    ]
    return line_chart("Variance explained by groups, mean over neurons, by layer", lines, " %", "layer")


@dataclass(frozen=True)
class _Section:
    key: str
    maps: list[tuple[str, str, Markup]]
    rows: list[tuple[str, int, list[dict[str, Any]]]]
    rare: list[str]


def _section(result: ProfilesResult, key: str, sites: Sequence[Site]) -> _Section:
    maps = []
    for site in sites:
        groups = result.frequent_groups(site, key)
        if len(groups) > 1:
            maps.append((result.short_names[site.name], f"{site.units:,} neurons", heat_map(result, site, key)))
    steps = {
        group: max(result.profiles.steps(site, group) for site in result.profiles.sites)
        for group in result.profiles.groups_of(key)
    }
    top = result.top_neurons[key]
    rows = []
    for group, by_site in top.items():
        best = sorted(
            ({"site": result.short_names[site], **neuron} for site, neurons in by_site.items() for neuron in neurons),
            key=lambda neuron: -neuron["contrast"],
        )
        rows.append((group.partition(":")[2], steps[group], best[:4]))
    rare = [group.partition(":")[2] for group in steps if group not in top and steps[group]]
    return _Section(key.replace("_", " "), maps, rows, rare)


def heat_map(result: ProfilesResult, site: Site, key: str) -> Markup:
    """Draw the profiles at a site (groups by neurons, in standard deviations) with a dendrogram of the groups.

    Groups are in the order of the dendrogram; neurons are sorted by the group for which they are most active. A strip
    below shows the relevance of each neuron, averaged over groups: the darker, the more relevant.
    """
    profiles = result.pooled
    groups, known = result.frequent_groups(site, key), profiles.groups_at(site, key)
    # Contrasts compare a group with the mean of the other groups; the factor makes that the mean of all groups.
    values = profiles.contrasts(site, key, groups) * (len(groups) - 1) / len(groups)
    rows = torch.tensor([known.index(group) for group in groups])
    tree = average_linkage(profiles.distances(site, key)[rows][:, rows])
    values = values[list(tree.order)]
    strongest = values.abs().amax(0).sort(descending=True, stable=True).indices[:MAX_UNITS].sort().values
    best = values[:, strongest].max(0)
    order = sorted(range(len(strongest)), key=lambda n: (int(best.indices[n]), -float(best.values[n])))
    units = strongest[torch.tensor(order)]
    relevance = profiles.relevance(site, key)[:, units].mean(0)
    height = _ROW * len(groups)
    parts = [
        _image(diverging(values[:, units], LIMIT), 0, height),
        _image(_grey(relevance / relevance.max().clamp_min(1e-300)), height + 3, 8),
        Markup('<text x="{}" y="{}">relevance</text>').format(_LEFT - 6, height + 11),
    ]
    parts += [
        Markup('<text x="{}" y="{}">{}</text>').format(_LEFT - 6, _ROW * place + 10, _short(groups[leaf]))
        for place, leaf in enumerate(tree.order)
    ]
    parts.append(_dendrogram(tree))
    label = f"{site.name}: {len(groups)} groups by {len(units)} neurons"
    return Markup('<svg class="heat" viewBox="0 0 {} {}" role="img"><title>{}</title>{}</svg>').format(
        _END + 4, height + 14, label, Markup("").join(parts)
    )


def _image(pixels: torch.Tensor, y: int, height: int) -> Markup:
    return Markup('<image x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" href="{}"/>').format(
        _LEFT, y, _RIGHT - _LEFT, height, data_url(pixels)
    )


def _grey(share: torch.Tensor) -> torch.Tensor:
    ink, paper = torch.tensor([28.0, 39.0, 51.0]), torch.tensor([245.0, 247.0, 249.0])
    return (paper + share.float().view(1, -1, 1) * (ink - paper)).round().to(torch.uint8)


def _dendrogram(tree: Tree) -> Markup:
    if not tree.merges:
        return Markup("")
    largest = max(distance for *_, distance in tree.merges) or 1.0
    x: dict[int, float] = dict.fromkeys(range(len(tree.order)), float(_RIGHT + 5))
    y: dict[int, float] = {leaf: _ROW * (place + 0.5) for place, leaf in enumerate(tree.order)}
    path = []
    for number, (a, b, distance) in enumerate(tree.merges, start=len(tree.order)):
        x[number] = _RIGHT + 5 + (_END - _RIGHT - 5) * distance / largest
        y[number] = (y[a] + y[b]) / 2
        path.append(f"M{x[a]:.1f} {y[a]:.1f}H{x[number]:.1f}V{y[b]:.1f}H{x[b]:.1f}")
    return Markup('<path class="tree" d="{}"/>').format("".join(path))


def _scale() -> Markup:
    colours = diverging(torch.linspace(-LIMIT, LIMIT, 64).unsqueeze(0), LIMIT)
    return Markup(
        '<svg width="120" height="12" aria-hidden="true">'
        '<image width="120" height="12" preserveAspectRatio="none" href="{}"/></svg>'
    ).format(data_url(colours))


def _short(group: str) -> str:
    name = group.partition(":")[2]
    return name if len(name) <= 14 else f"{name[:8]}…{name[-4:]}"
