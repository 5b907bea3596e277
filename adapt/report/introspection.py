"""What was measured inside a model, drawn: a matrix of similarities, a table of probes, a table of changed weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from adapt import formatting
from adapt.formatting import short_names
from adapt.report import figures
from adapt.report.heat_map import heat_map

if TYPE_CHECKING:
    from torch import Tensor

    from adapt.introspect.probes.probe import Probe, ProbeRow
    from adapt.introspect.similarity.similarity import Similarity
    from adapt.introspect.weights.measures import ParameterChange, WeightMeasures
    from interventions.neurons import Neurons, Scores

_SHOWN = 12  # neurons of a site that are named


def similarity_figure(similarity: Similarity) -> Markup:
    """Every layer with every layer, the darker the more alike."""
    from adapt.introspect.similarity.similarity import NAMES

    title = f"{NAMES[similarity.method]} over {formatting.counted(similarity.count, similarity.per)}"
    return heat_map(title, similarity.rows, similarity.columns, similarity.matrix.tolist())


def probe_table(probe: Probe, after: Probe | None = None) -> Markup:
    """A line a site: accuracy (full circle, with its interval), and what the control task has (a cross); before (open
    circle) and `after`, where there are both. A dashed line is what guessing has.
    """
    scale = figures.axis(0.0, 100.0)
    adapted = {} if after is None else {row.site: row for row in after.rows}
    lines = []
    for row in probe.rows:
        second = adapted.get(row.site)
        cells = [_accuracy(row)] + ([_accuracy(second)] if second else [Markup("<td></td>")] * (after is not None))
        last = second or row
        lines.append(
            Markup(
                '<tr><th scope="row" class="text"><code>{}</code></th><td class="picture">{}</td>{}<td>{:.1f} %</td>'
                "<td>{}</td></tr>"
            ).format(
                row.site, _picture(row, second, probe.chance, scale), Markup("").join(cells), 100 * last.control,
                f"{100 * last.selectivity:+.1f}".replace("-", "−"),
            )
        )  # fmt: skip
    named = ["Accuracy"] if after is None else ["Before", "After"]
    heads = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in named)
    return Markup(
        '<div class="scroll" role="region" aria-label="Sites" tabindex="0"><table class="groups"><thead><tr>'
        '<th scope="col" class="text">Site</th><th scope="col" class="picture">{}</th>{}<th scope="col">Control</th>'
        '<th scope="col">Selectivity</th></tr></thead><tbody>{}</tbody></table></div>'
    ).format(figures.axis_labels(scale), heads, Markup("").join(lines))


def knowing_table(probe: Probe) -> Markup:
    """Which neurons know the target, the surest first: a line a site, and a line a class at the site read best."""
    best = max(probe.rows, key=lambda row: row.accuracy).site
    sites = [(site, probe.scores[site]) for site in probe.scores.sites]
    lines = [_knowing(Markup("<code>{}</code>").format(site.name), scores) for site, scores in sites]
    # Of two classes, what knows the one knows the other.
    several = probe.by_class.items() if len(probe.classes) > 2 else ()
    each = [
        _knowing(Markup("{} at <code>{}</code>").format(name, best), scores[site])
        for name, scores in several
        for site in scores.sites
        if site.name == best
    ]
    return Markup(
        '<div class="scroll" role="region" aria-label="Neurons" tabindex="0"><table class="groups"><thead><tr>'
        '<th scope="col" class="text">Site</th><th scope="col" class="text">Neurons that know most of it</th></tr>'
        "</thead><tbody>{}</tbody></table></div>"
    ).format(Markup("").join(lines + each))


def _knowing(what: Markup, scores: Tensor) -> Markup:
    order = scores.sort(descending=True, stable=True).indices.tolist()
    chosen = [unit for unit in order[:_SHOWN] if scores[unit] > 0]
    said = ", ".join(map(str, chosen)) or "none"
    if chosen:
        alike = int((scores == scores[chosen[-1]]).sum()) - sum(bool(scores[u] == scores[chosen[-1]]) for u in chosen)
        said += f", and {alike} more as much as the last" if alike else ""
    return Markup('<tr><th scope="row" class="text">{}</th><td class="text">{}</td></tr>').format(what, said)


def _accuracy(row: ProbeRow) -> Markup:
    low, high = (100 * end for end in row.interval)
    return Markup("<td>{:.1f} %<small>{:.1f}–{:.1f} %</small></td>").format(100 * row.accuracy, low, high)


def _picture(row: ProbeRow, after: ProbeRow | None, chance: float, scale: figures.Axis) -> Markup:
    def place(value: float) -> float:
        return 100 * scale.place(100 * value)

    parts = [
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(100 * scale.place(tick))
        for tick in scale.ticks
    ]
    parts.append(Markup('<line class="guess" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(place(chance)))
    shown = [(row, "after", 12)] if after is None else [(row, "before", 7), (after, "after", 17)]
    for own, kind, y in shown:
        low, high = (place(end) for end in own.interval)
        parts.append(
            Markup(
                '<g class="{}"><line x1="{:.2f}%" x2="{:.2f}%" y1="{y}" y2="{y}"/><circle cx="{:.2f}%" cy="{y}" r="4"/>'
                '</g><svg x="{:.2f}%" y="{y}" overflow="visible"><path class="new" d="M-3 -3l6 6m0-6l-6 6"/></svg>'
            ).format(kind, low, high, place(own.accuracy), place(own.control), y=y)
        )
    label = ", ".join(f"{kind} {own.accuracy:.3f}, control {own.control:.3f}" for own, kind, _ in shown)
    return Markup('<svg class="pair" width="100%" height="24" role="img"><title>{}</title>{}</svg>').format(
        f"{row.site}: {label if after else label.removeprefix('after ')}", Markup("").join(parts)
    )


def weight_table(measures: WeightMeasures) -> Markup:
    """A line a parameter that has two axes or more: how far it moved, beside chance where that is known, and how."""
    rows = [row for row in measures.parameters if len(row.shape) > 1]
    largest = max((row.relative or 0.0 for row in rows), default=0.0)
    known = any(row.floor is not None for row in rows)
    floor = Markup('<th scope="col">By chance</th>') if known else ""
    names = short_names([row.name for row in rows])
    lines = [_line(row, name, largest, known) for row, name in zip(rows, names, strict=True)]
    return Markup(
        '<div class="scroll" role="region" aria-label="Parameters" tabindex="0"><table class="layers"><thead><tr>'
        '<th scope="col" class="text">Parameter</th><th scope="col" class="picture">Relative change</th>'
        '<th scope="col"></th>{}<th scope="col">Cosine</th><th scope="col">Spectral</th>'
        '<th scope="col">Stable rank</th><th scope="col">Effective rank</th><th scope="col">Overlap</th>'
        '<th scope="col">Changed</th></tr></thead><tbody>{}</tbody></table></div>'
    ).format(floor, Markup("").join(lines))


def _line(row: ParameterChange, name: str, largest: float, known: bool) -> Markup:
    moved = bool(row.changed)
    figured: Sequence[str] = [
        formatting.UNKNOWN if row.relative is None else formatting.relative(row.relative),
        *([formatting.UNKNOWN if row.floor is None else formatting.relative(row.floor)] if known else []),
        formatting.cosine(row.cosine),
        _said(row.spectral, "{:.2g}", moved), _said(row.stable_rank, "{:.1f}", moved),
        _said(row.effective_rank, "{:.0f}", moved), _said(row.overlap, "{:.2f}", moved),
        f"{100 * row.changed:.0f} %" if row.changed in (0, 1) else f"{100 * row.changed:.1f} %",
    ]  # fmt: skip
    cells = Markup("").join(Markup("<td>{}</td>").format(figure) for figure in figured)
    picture = figures.bar(row.relative or 0.0, largest)
    still = Markup("") if moved else Markup(' class="frozen"')
    shape = " × ".join(f"{size:,}" for size in row.shape)
    return Markup(
        '<tr{}><th scope="row" class="text"><code title="{}">{}</code><small>{}</small></th>'
        '<td class="picture">{}</td>{}</tr>'
    ).format(still, row.name, name, shape, picture, cells)


def _said(value: float | None, form: str, moved: bool) -> str:
    return formatting.UNKNOWN if value is None or not moved else form.format(value)


def neuron_strips(changes: Scores) -> Markup:
    """A layer at a time, a cell for each neuron: the darker, the larger its relative change."""
    key = Markup("").join(Markup("<li>{}{}</li>").format(swatch, name) for name, swatch in figures.shade_key()[:-1])
    parts = []
    for site in changes.sites:
        values = changes[site].tolist()
        strip = figures.neuron_strip(site.name, values) if any(values) else Markup("")
        parts.append(
            Markup('<div class="units"><header><h4><code>{0}</code></h4><p>{1}</p></header>{2}</div>').format(
                site.name, figures.describe(values), strip and Markup(
                    '<div class="scroll" role="group" aria-label="Neurons of {}" tabindex="0">{}</div>'
                ).format(site.name, strip),
            )
        )  # fmt: skip
    return Markup('<ul class="key">{}</ul>{}').format(key, Markup("").join(parts))


def chance_table(measures: WeightMeasures, flagged: Neurons) -> Markup:
    """A line a site: how far the middle neuron moved, and by chance; which were moved beyond it, the surest first."""
    lines = []
    for site in measures.incoming.sites:
        order = measures.evidence[site].sort(descending=True, stable=True).indices.tolist()
        chosen = [str(unit) for unit in order if unit in flagged[site]]
        shown = ", ".join(chosen[:_SHOWN]) + ", ..." * (len(chosen) > _SHOWN)
        lines.append(
            Markup(
                '<tr><th scope="row" class="text"><code>{}</code></th><td>{:,}</td><td>{}</td><td>{}</td><td>{:,}</td>'
                '<td class="text">{}</td></tr>'
            ).format(
                site.name, site.units, formatting.relative(float(measures.incoming[site].median())),
                formatting.relative(float(measures.floor[site].median())), len(chosen), shown,
            )
        )  # fmt: skip
    return Markup(
        '<div class="scroll" role="region" aria-label="Sites" tabindex="0"><table class="groups"><thead><tr>'
        '<th scope="col" class="text">Site</th><th scope="col">Neurons</th><th scope="col">Median change</th>'
        '<th scope="col">By chance</th><th scope="col">Flagged</th><th scope="col" class="text">Which</th></tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(Markup("").join(lines))
