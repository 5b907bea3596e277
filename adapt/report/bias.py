"""The page of group bias: error rates, layers and neurons that respond differently, and their link with errors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from adapt import formatting
from adapt.introspect.bias.bias_json import rate_to_json
from adapt.report import figures
from adapt.report.maps import map_section
from adapt.report.sections import NOTHING, Section, write_sections

if TYPE_CHECKING:
    from adapt.introspect.bias.group_results import GroupComparison, GroupRate
    from adapt.introspect.bias.result import BiasResult
    from adapt.introspect.bias.rows import LayerDivergence, NeuronDivergence
    from adapt.introspect.bias.shift import ShiftEffect

MAX_NEURONS = 20  # rows in the table of neurons of a comparison
MAX_LEFT_OUT = 12  # groups named among those left out
FEW_FOLDS = 20  # with fewer, few neurons can be significant, or none

LAYERS_HELP = (
    "Distance: how far the mean activations of the group are from those of its reference, in standard deviations of a "
    "step. It is the root mean square over contents and neurons, corrected for noise, with a 95 % confidence interval. "
    "Diverging neurons have a significant distance, at a false discovery rate of {rate:g} %. Linked to errors: "
    "within the group, the neuron diverges further in examples with more errors."
)
NEURONS_HELP = (
    "Neurons linked to errors (in bold) come first, then the others by distance. q is the false discovery rate at "
    "which a neuron counts as diverging. Shift: how much more (+) or less active it is in the group, averaged over "
    "contents. Correlation with errors: between the divergence of an example and its error rate, within the group. At "
    "errors: how much larger the divergence is where the output is wrong than where it is correct, in percent of the "
    "distance. These are the largest of many distances, so expect slightly smaller values on other data."
)
SHIFT_HELP = (
    "The diverging neurons of one layer are shifted by the mean difference from the reference, and the examples of the "
    "group are decoded again. As a control, as many random neurons of the layer are shifted by as much. If errors fall "
    "only with the diverging neurons, the divergence causes errors. The shift is the same for all contents, so "
    "differences that vary in sign between contents remain."
)


def write_bias(path: Path, result: BiasResult, title: str, config: str = "") -> None:
    """Write the page of group bias, atomically.

    Args:
        path: The HTML file.
        result: The result to draw.
        title: The heading of the page.
        config: The configuration of the run as YAML, shown at the end of the page.
    """
    sections = [Section("Error rates by group", _rates_help(result), _rates(result))]
    for comparison in result.comparisons:
        if comparison.layers:
            heading = f"{comparison.group} compared with {comparison.reference}"
            body = _comparison(result, comparison, with_help=len(sections) == 1)
            sections.append(Section(heading, result.divergence_summary(comparison), body))
    maps = map_section(result.maps, "activation", ("the reference", "the group")) if result.maps else NOTHING
    write_sections(path, title, result.summary, sections, config, maps)


def _rates_help(result: BiasResult) -> str:
    unit = result.example_name if result.resampled == "example" else result.resampled
    text = (
        f"{result.metric.label} by {result.group_by}, with 95 % confidence intervals from resampled {unit}s, and the "
        "difference from the reference of each group. "
    )
    if result.resampled == "example" and result.group_by != "speaker":
        text += "The intervals hold for these speakers; other speakers of a group may differ. "
    if result.left_out:
        names = [f"{formatting.short(name)} ({size})" for name, size in result.left_out.items()]
        more = f" and {len(names) - MAX_LEFT_OUT} more" if len(names) > MAX_LEFT_OUT else ""
        text += (
            f"Left out, because they are too small or not among the largest: {', '.join(names[:MAX_LEFT_OUT])}{more}. "
        )
    if result.folds < FEW_FOLDS:
        text += (
            f"The smallest group has only {result.folds} {unit}s, so the smallest possible p is about "
            f"{2 ** (1 - result.folds):.1g}, and few neurons can be significant."
        )
    return text


def _rates(result: BiasResult) -> Markup:
    rows = [rate_to_json(rate, result.metric, result.resampled) for rate in result.rates]
    scale = figures.metric_axis(rows, [result.metric])
    lines = [
        _rate_line(result, rate, figures.interval(rate.group, row, result.metric, scale))
        for rate, row in zip(result.rates, rows, strict=True)
    ]
    heads = [result.metric.label, "Difference", "From", f"{result.example_name.capitalize()}s"]
    if result.resampled != "example":
        heads.append(f"{result.resampled.capitalize()}s")
    head = Markup('<th scope="col" class="text">{}</th><th scope="col" class="picture">{}</th>').format(
        result.group_by.capitalize(), figures.axis_labels(scale)
    )
    return _table("Groups", head + _heads(heads, text={"From"}), lines, "groups")


def _rate_line(result: BiasResult, rate: GroupRate, picture: Markup) -> Markup:
    metric = result.metric
    difference = Markup("<td>{}</td><td></td>").format(formatting.UNKNOWN)
    if rate.difference is not None and rate.difference_interval is not None:
        difference = Markup('<td>{}<small>{}</small></td><td class="text">{}</td>').format(
            formatting.points(rate.difference, metric),
            formatting.points_range(rate.difference_interval, metric, rate.units),
            formatting.short(rate.reference or ""),
        )
    counts = Markup("<td>{}</td>").format(formatting.count(rate.examples))
    if result.resampled != "example":
        counts += Markup("<td>{}</td>").format(formatting.count(rate.units))
    return Markup(
        '<tr><th scope="row" class="text">{}</th><td class="picture">{}</td><td>{}<small>{}</small></td>{}{}</tr>'
    ).format(
        formatting.short(rate.group),
        picture,
        formatting.amount(rate.rate, metric),
        formatting.amount_range(rate.interval, metric, rate.units),
        difference,
        counts,
    )


def _comparison(result: BiasResult, comparison: GroupComparison, with_help: bool) -> Markup:
    """Return the tables of a comparison. `with_help` adds how to read them, for the first comparison only."""
    layers_help = LAYERS_HELP.format(rate=100 * result.false_discovery_rate)
    parts = [_subhead("By layer", layers_help if with_help else ""), _layers(result, comparison.layers)]
    if comparison.neurons:
        parts += [_subhead("Neurons", NEURONS_HELP if with_help else ""), _neurons(result, comparison.neurons)]
    if comparison.shifts:
        parts += [_subhead("Shifted towards the reference", SHIFT_HELP), _shifts(result, comparison.shifts)]
    return Markup("").join(parts)


def _layers(result: BiasResult, rows: Sequence[LayerDivergence]) -> Markup:
    largest = max(row.interval[1] for row in rows)
    lines = []
    for row in rows:
        within = "all steps"
        if row.content != "all":
            within = f"{row.contents} × {row.content.replace('_', ' ')}, {100 * row.coverage:.0f} % of steps"
        lines.append(
            Markup(
                '<tr><th scope="row" class="text"><code>{}</code></th><td class="picture">{}</td>'
                "<td>{:.2f}<small>{:.2f}–{:.2f}</small></td><td>{:,} of {:,}</td><td>{}</td>"
                '<td class="text">{}</td></tr>'
            ).format(
                result.short_names[row.site],
                figures.bar(row.distance, largest),
                row.distance,
                *row.interval,
                row.diverging,
                row.units,
                formatting.count(row.error_linked),
                within,
            )
        )
    head = Markup('<th scope="col" class="text">Layer</th><th scope="col" class="picture">Distance</th>')
    heads = _heads(["", "Diverging neurons", "Linked to errors", "Compared within"], text={"Compared within"})
    return _table("Layers", head + heads, lines, "layers")


def _neurons(result: BiasResult, rows: Sequence[NeuronDivergence]) -> Markup:
    lines = [_neuron_line(result, row) for row in rows[:MAX_NEURONS]]
    head = Markup('<th scope="col" class="text">Neuron</th>')
    heads = ["Distance", "Shift", "Largest differences", "Correlation with errors", "At errors"]
    table = _table("Neurons", head + _heads(heads, text={"Largest differences"}), lines, "layers")
    left = len(rows) - len(lines)
    if left:
        table += Markup('<p class="note">{} more are in <code>bias.json</code>.</p>').format(formatting.count(left))
    return table


def _neuron_line(result: BiasResult, row: NeuronDivergence) -> Markup:
    contents = ", ".join(f"{each.content} {_signed(each.difference)}" for each in row.top_contents)
    unknown = Markup("<td>{}</td>").format(formatting.UNKNOWN)
    correlation = excess = unknown
    if row.error_correlation is not None and row.error_interval is not None:
        style = Markup("<b>{}</b>") if row.error_linked else Markup("{}")
        correlation = Markup("<td>{}<small>{} to {}</small></td>").format(
            style.format(_signed(row.error_correlation)), *map(_signed, row.error_interval)
        )
    if row.excess_at_errors is not None and row.excess_interval is not None:
        excess = Markup("<td>{} %<small>{} to {} %</small></td>").format(
            _percent(row.excess_at_errors), *map(_percent, row.excess_interval)
        )
    return Markup(
        '<tr><th scope="row" class="text"><code>{}</code> {}<small>q {}</small></th>'
        "<td>{:.2f}<small>{:.2f}–{:.2f}</small></td>"
        '<td>{}<small>{} to {}</small></td><td class="text">{}</td>{}{}</tr>'
    ).format(
        result.short_names[row.site],
        row.unit,
        _q_value(row.q_value),
        row.distance,
        *row.interval,
        _signed(row.shift),
        *map(_signed, row.shift_interval),
        contents,
        correlation,
        excess,
    )


def _shifts(result: BiasResult, effects: Sequence[ShiftEffect]) -> Markup:
    metric = result.metric
    lines = []
    for effect in effects:
        cells = [
            Markup("<td>{}</td><td>{}</td>").format(
                formatting.amount(values[metric.key], metric), formatting.points_range(difference[metric.key], metric)
            )
            for values, difference in (
                (effect.values, effect.difference),
                (effect.random, effect.random_difference),
            )
        ]
        lines.append(
            Markup('<tr><th scope="row" class="text"><code>{}</code></th><td>{:,}</td>{}</tr>').format(
                result.short_names[effect.site], effect.neurons, Markup("").join(cells)
            )
        )
    head = Markup('<th scope="col" class="text">Layer</th>')
    heads = ["Neurons", metric.label, "Change", f"{metric.label}, random neurons", "Change"]
    return _table("Shifted neurons", head + _heads(heads), lines, "layers")


def _subhead(heading: str, how: str = "") -> Markup:
    if not how:
        return Markup("<h3>{}</h3>").format(heading)
    return Markup('<h3>{}</h3><p class="how">{}</p>').format(heading, how.replace(" %", "\u00a0%"))


def _heads(names: Sequence[str], text: Collection[str] = ()) -> Markup:
    each = Markup('<th scope="col"{}>{}</th>')
    return Markup("").join(each.format(Markup(' class="text"') if name in text else "", name) for name in names)


def _table(label: str, head: Markup, lines: Sequence[Markup], style: str) -> Markup:
    return Markup(
        '<div class="scroll" role="region" aria-label="{}" tabindex="0"><table class="{}"><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(label, style, head, Markup("").join(lines))


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:+.0f}".replace("-", "−")


def _q_value(q: float) -> str:
    return f"= {q:.4f}" if q >= 0.0001 else "< 0.0001"
