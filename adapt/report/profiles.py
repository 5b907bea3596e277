"""The page of profiles: what each layer knows, which neurons answer to which group, and which groups are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from markupsafe import Markup

from adapt.files import write_text
from adapt.introspect.profiles.tree import Tree, average_linkage
from adapt.report.line_chart import Curve, line_chart
from adapt.report.png import data_url, diverging
from adapt.report.template import environment

if TYPE_CHECKING:
    from adapt.introspect.profiles.measure import MeasuredProfiles
    from interventions.sites import Site

MOST_SITES = 12  # that are drawn
MOST_UNITS = 400  # of a site
LIMIT = 1.5  # standard deviations, where colours end: the same in every picture
_STYLES = ("validation", "second", "third", "training")
# Of a heat map, in the picture's own units: where its columns begin and end, and the height of a row.
_LEFT, _RIGHT, _END, _ROW = 92, 872, 980, 13


def write_profiles(path: Path, measured: MeasuredProfiles, title: str, config: str = "") -> None:
    """Write the page, whole or not at all."""
    sites = drawn_sites(measured)
    keys = [key for key in measured.profiles.keys if measured.tops[key]]
    page = environment().get_template("profiles.html.j2").render(
        title=title, summary=measured.told, config=config, example_name=measured.model.task.example_name,
        curves=_curves(measured, sites), names=[measured.names[site.name] for site in sites],
        sections=[_section(measured, key, sites) for key in keys],
        scale=_scale(), limit=LIMIT, most=MOST_UNITS, least=measured.least,
        left_out=len(measured.profiles.sites) - len(sites), windows=bool(measured.profiles.windows),
    )  # fmt: skip
    write_text(path, page)


def drawn_sites(measured: MeasuredProfiles) -> list[Site]:
    """The sites that stand for the model's layers, or all where none does; at most `MOST_SITES`, evenly picked."""
    layers = {layer.site or layer.name for layer in measured.model.layers}
    sites = [site for site in measured.profiles.sites if site.name in layers] or list(measured.profiles.sites)
    if len(sites) <= MOST_SITES:
        return sites
    places = [round(n * (len(sites) - 1) / (MOST_SITES - 1)) for n in range(MOST_SITES)]
    return [sites[place] for place in places]


def _curves(measured: MeasuredProfiles, sites: Sequence[Site]) -> Markup | None:
    lines = [
        Curve(
            key.replace("_", " "), _STYLES[n % len(_STYLES)],
            {float(place): 100 * own[site.name] for place, site in enumerate(sites) if site.name in own},
        )
        for n, (key, own) in enumerate(measured.explained.items())
    ]  # fmt: skip
    return line_chart("Share of a neuron's variance between groups, by layer", lines, " %", "layer")


@dataclass(frozen=True)
class _Section:
    key: str
    maps: list[tuple[str, str, Markup]]
    rows: list[tuple[str, int, list[dict]]]
    few: list[str]


def _section(measured: MeasuredProfiles, key: str, sites: Sequence[Site]) -> _Section:
    maps = []
    for site in sites:
        groups = measured.named(site, key)
        if len(groups) > 1:
            maps.append((measured.names[site.name], f"{site.units:,} neurons", heat_map(measured, site, key)))
    steps = {
        group: max(measured.profiles.steps(site, group) for site in measured.profiles.sites)
        for group in measured.profiles.of(key)
    }
    rows = []
    for group, own in measured.tops[key].items():
        best = sorted(
            ({"site": measured.names[site], **neuron} for site, neurons in own.items() for neuron in neurons),
            key=lambda neuron: -neuron["contrast"],
        )
        rows.append((group.partition(":")[2], steps[group], best[:4]))
    few = [group.partition(":")[2] for group in steps if group not in measured.tops[key] and steps[group]]
    return _Section(key.replace("_", " "), maps, rows, few)


def heat_map(measured: MeasuredProfiles, site: Site, key: str) -> Markup:
    """Groups by neurons at a site: the activation profile in standard deviations, with the tree of the groups.

    Groups stand in the tree's order. Neurons stand by the group that they answer to most; below is each one's
    relevance, the darker the more, the mean over groups.
    """
    profiles = measured.profiles.pooled()
    groups, seen = measured.named(site, key), profiles.seen(site, key)
    values = profiles.contrasts(site, key, groups) * (len(groups) - 1) / len(groups)  # from the mean of all groups
    rows = torch.tensor([seen.index(group) for group in groups])
    tree = average_linkage(profiles.distances(site, key)[rows][:, rows])
    values = values[list(tree.order)]
    strongest = values.abs().amax(0).sort(descending=True, stable=True).indices[:MOST_UNITS].sort().values
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
        Markup('<text x="{}" y="{}">{}</text>').format(_LEFT - 6, _ROW * place + 10, _word(groups[leaf]))
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
    far = max(distance for *_, distance in tree.merges) or 1.0
    x: dict[int, float] = dict.fromkeys(range(len(tree.order)), float(_RIGHT + 5))
    y: dict[int, float] = {leaf: _ROW * (place + 0.5) for place, leaf in enumerate(tree.order)}
    path = []
    for number, (a, b, distance) in enumerate(tree.merges, start=len(tree.order)):
        x[number], y[number] = _RIGHT + 5 + (_END - _RIGHT - 5) * distance / far, (y[a] + y[b]) / 2
        path.append(f"M{x[a]:.1f} {y[a]:.1f}H{x[number]:.1f}V{y[b]:.1f}H{x[b]:.1f}")
    return Markup('<path class="tree" d="{}"/>').format("".join(path))


def _scale() -> Markup:
    colours = diverging(torch.linspace(-LIMIT, LIMIT, 64).unsqueeze(0), LIMIT)
    return Markup(
        '<svg width="120" height="12" aria-hidden="true">'
        '<image width="120" height="12" preserveAspectRatio="none" href="{}"/></svg>'
    ).format(data_url(colours))


def _word(group: str) -> str:
    name = group.partition(":")[2]
    return name if len(name) <= 14 else f"{name[:8]}…{name[-4:]}"
