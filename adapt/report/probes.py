"""The page of probes: for each target (accent, phoneme, ...), a table of accuracies and the neurons that encode it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from adapt.report import figures
from adapt.report.sections import Section, write_sections

if TYPE_CHECKING:
    from torch import Tensor

    from adapt.introspect.probes.probe import Probe, ProbeRow
    from adapt.introspect.probes.result import ProbesResult

_SHOWN = 12  # neurons listed per site


def write_probes(path: Path, result: ProbesResult, title: str, config: str = "") -> None:
    """Write the page of a `ProbesResult` to `path`, atomically."""
    sections = []
    for name, probe in result.probes.items():
        reference = result.references.get(name)
        heading = name[:1].upper() + name[1:]
        scores = (
            "The neurons with the highest scores of the probe, from the highest. The scores of all neurons are in "
            f"probes/{name}. Scores compare neurons of one layer, not layers."
        )
        sections += [
            Section(
                heading if reference is None else f"{heading}, compared with {result.reference_model}",
                _how_to_read(probe, reference),
                probe_table(probe, reference, ("Model", "Reference")),
            ),
            Section(f"Neurons that encode the {name}", scores, neuron_table(probe)),
        ]
    write_sections(path, title, result.summary, sections, config)


def _how_to_read(probe: Probe, reference: Probe | None) -> str:
    drawn = "A circle is the accuracy with its 95 % interval"
    if reference is not None:
        drawn = (
            "An open circle is this model. A full circle is the reference model, whose control accuracy and "
            "selectivity are shown"
        )
    return (
        f"Accuracy of a {probe.method.replace('_', ' ')} probe of {probe.target} on {probe.tested:,} held-out rows, as "
        f"the mean over {len(probe.classes)} classes. The control task has random labels: one for each speaker "
        "(phonemes: for each phoneme between the same neighbours; tokens: for each previous token). A probe can only "
        "learn them by memorising. Selectivity is the accuracy minus that on the control task. "
        f"{drawn}. A cross is the control task, and the dashed line is chance. Nothing follows from an accuracy whose "
        "interval reaches down to either."
    )


def probe_table(probe: Probe, other: Probe | None = None, names: tuple[str, str] = ("Before", "After")) -> Markup:
    """Return a table with a row for each site: the probe's accuracy and that of its control task.

    A picture shows accuracies as circles, control tasks as crosses, and chance as a dashed line. Where no accuracy is
    clearly above chance and the control task, the table says so instead. If `other`, the probe
    of a second model, is given, the first model's circles are open. `names` are the headings of the two models.
    """
    scale = figures.axis(0.0, 100.0)
    meaningful = probe.above_chance or (other is not None and other.above_chance)
    others = {} if other is None else {row.site: row for row in other.rows}
    lines = []
    for row in probe.rows:
        second = others.get(row.site)
        cells = [_accuracy(row)]
        if other is not None:
            cells.append(Markup("<td></td>") if second is None else _accuracy(second))
        last = second or row
        if meaningful and any(one is not None and one.above_chance(probe.chance) for one in (row, second)):
            picture = _picture(row, second, names, probe.chance, scale)
        else:
            picture = Markup("<small>Nothing follows from this.</small>")
        lines.append(
            Markup(
                '<tr><th scope="row" class="text"><code>{}</code></th><td class="picture">{}</td>{}<td>{:.1f} %</td>'
                "<td>{}</td></tr>"
            ).format(
                row.site,
                picture,
                Markup("").join(cells),
                100 * last.control,
                f"{100 * last.selectivity:+.1f}".replace("-", "−"),
            )
        )
    headings = ("Accuracy",) if other is None else names
    heads = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in headings)
    return Markup(
        '<div class="scroll" role="region" aria-label="Sites" tabindex="0"><table class="groups"><thead><tr>'
        '<th scope="col" class="text">Site</th><th scope="col" class="picture">{}</th>{}<th scope="col">Control</th>'
        '<th scope="col">Selectivity</th></tr></thead><tbody>{}</tbody></table></div>'
    ).format(figures.axis_labels(scale), heads, Markup("").join(lines))


def neuron_table(probe: Probe) -> Markup:
    """Return a table of the highest-scoring neurons: a row per site, and one per class for the most accurate site."""
    best = max(probe.rows, key=lambda row: row.accuracy).site
    lines = [_neurons(Markup("<code>{}</code>").format(site.name), probe.scores[site]) for site in probe.scores.sites]
    if len(probe.classes) > 2:  # if there are only two classes, the same neurons encode both
        lines += [
            _neurons(Markup("{} at <code>{}</code>").format(name, best), scores[site])
            for name, scores in probe.by_class.items()
            for site in scores.sites
            if site.name == best
        ]
    return Markup(
        '<div class="scroll" role="region" aria-label="Neurons" tabindex="0"><table class="groups"><thead><tr>'
        '<th scope="col" class="text">Site</th><th scope="col" class="text">Neurons with the highest scores</th></tr>'
        "</thead><tbody>{}</tbody></table></div>"
    ).format(Markup("").join(lines))


def _neurons(label: Markup, scores: Tensor) -> Markup:
    order = scores.sort(descending=True, stable=True).indices.tolist()
    units = [unit for unit in order[:_SHOWN] if scores[unit] > 0]
    text = ", ".join(map(str, units)) or "none"
    if units:
        lowest = scores[units[-1]]
        tied = int((scores == lowest).sum()) - sum(bool(scores[unit] == lowest) for unit in units)
        if tied:
            text += f", and {tied} more with the same score as the last"
    return Markup('<tr><th scope="row" class="text">{}</th><td class="text">{}</td></tr>').format(label, text)


def _accuracy(row: ProbeRow) -> Markup:
    low, high = (100 * end for end in row.interval)
    return Markup("<td>{:.1f} %<small>{:.1f}–{:.1f} %</small></td>").format(100 * row.accuracy, low, high)


def _picture(
    row: ProbeRow, second: ProbeRow | None, names: tuple[str, str], chance: float, scale: figures.Axis
) -> Markup:
    def place(value: float) -> float:
        return 100 * scale.place(100 * value)

    parts = [
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(100 * scale.place(tick))
        for tick in scale.ticks
    ]
    parts.append(Markup('<line class="guess" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(place(chance)))
    # Each model's row, with its style (an open or a full circle) and its vertical position.
    shown = [(row, "after", 12)] if second is None else [(row, "before", 7), (second, "after", 17)]
    for own, style, y in shown:
        low, high = (place(end) for end in own.interval)
        parts.append(
            Markup(
                '<g class="{}"><line x1="{:.2f}%" x2="{:.2f}%" y1="{y}" y2="{y}"/><circle cx="{:.2f}%" cy="{y}" r="4"/>'
                '</g><svg x="{:.2f}%" y="{y}" overflow="visible"><path class="new" d="M-3 -3l6 6m0-6l-6 6"/></svg>'
            ).format(style, low, high, place(own.accuracy), place(own.control), y=y)
        )
    label = _described(row)
    if second is not None:
        label = f"{names[0].lower()} {label}, {names[1].lower()} {_described(second)}"
    return Markup('<svg class="pair" width="100%" height="24" role="img"><title>{}</title>{}</svg>').format(
        f"{row.site}: {label}", Markup("").join(parts)
    )


def _described(row: ProbeRow) -> str:
    return f"{row.accuracy:.3f}, control {row.control:.3f}"
