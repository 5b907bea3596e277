"""The page on groups that part: who is read worse, at which layers and neurons each parts, and do these make errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from adapt import formatting
from adapt.introspect.topography.layouts import sorted_grid
from adapt.introspect.topography.maps import TopographicMap
from adapt.report import figures
from adapt.report.maps import map_section
from adapt.report.sections import NOTHING, Section, write_sections

if TYPE_CHECKING:
    from adapt.introspect.bias.comparisons import Compared
    from adapt.introspect.bias.result import MeasuredBias
    from adapt.introspect.bias.shift import Moved

MOST_NEURONS = 20  # of a group, that are listed
MOST_MAPS = 3
FEW_FOLDS = 20  # with fewer, a single neuron that parts may not be told from chance


def write_bias(path: Path, measured: MeasuredBias, title: str, config: str = "") -> None:
    """Write the page, whole or not at all."""
    sections = [Section("Who is read worse", _how_rates(measured), _rates(measured))]
    for own in measured.ordered:
        if own.partings:
            how = measured.told_of(own).partition("; ")[2]
            heading = f"{own.group} against {own.against}"
            sections.append(
                Section(heading, how[0].upper() + how[1:], _compared(measured, own, first=len(sections) == 1))
            )
    maps = _maps(measured)
    drawn = map_section(maps, "activation", ("the others", "the group")) if maps else NOTHING
    write_sections(path, title, measured.told, sections, config, drawn)


def _how_rates(measured: MeasuredBias) -> str:
    noun = measured.model.task.example_name
    unit = noun if measured.unit == "example" else measured.unit
    said = (
        f"{measured.errors.metric.label} by {measured.by}, with 95 % intervals ({unit}s resampled), and the difference "
        "from whom the group is held against. "
    )
    if measured.unit == "example" and measured.by != "speaker":
        said += "What holds for these speakers need not hold for others of their group. "
    if measured.left_out:
        left = ", ".join(f"{formatting.short(name)} ({size})" for name, size in list(measured.left_out.items())[:12])
        more = f" and {len(measured.left_out) - 12} more" if len(measured.left_out) > 12 else ""
        said += f"Too small or too many, and left out: {left}{more}. "
    if measured.folds < FEW_FOLDS:
        said += (
            f"The smallest group has {measured.folds} {unit}s, so that no neuron can have a p under about "
            f"{2 ** (1 - measured.folds):.1g}: few can be named, whatever they do."
        )
    return said


def _rates(measured: MeasuredBias) -> Markup:
    metric = measured.errors.metric
    rows = measured.rates
    scale = figures.metric_axis(rows, [metric])
    unit = measured.unit + "s"
    lines = []
    for row in rows:
        picture = figures.interval(row["group"], row, metric, scale)
        against = Markup("<td>{}</td><td></td>").format(formatting.UNKNOWN)
        if "against" in row:
            against = Markup('<td>{}<small>{}</small></td><td class="text">{}</td>').format(
                formatting.points(row["difference"], metric), formatting.points_range(row["difference_interval"], metric),
                formatting.short(row["against"]),
            )  # fmt: skip
        counts = Markup("<td>{}</td>").format(formatting.count(row["examples"]))
        counts += Markup("<td>{}</td>").format(formatting.count(row[unit])) if unit != "examples" else Markup("")
        lines.append(
            Markup(
                '<tr><th scope="row" class="text">{}</th><td class="picture">{}</td>'
                "<td>{}<small>{}</small></td>{}{}</tr>"
            ).format(
                formatting.short(row["group"]), picture, formatting.amount(row[metric.key], metric),
                formatting.amount_range(row[f"{metric.key}_interval"], metric), against, counts,
            )
        )  # fmt: skip
    heads = [metric.label, "More", "Than", measured.model.task.example_name.capitalize() + "s"]
    heads += [unit.capitalize()] if unit != "examples" else []
    head = Markup('<th scope="col" class="text">{}</th><th scope="col" class="picture">{}</th>').format(
        measured.by.capitalize(), figures.axis_labels(scale)
    )
    return _table("Groups", head + _heads(heads, text={"Than"}), lines, "groups")


def _compared(measured: MeasuredBias, own: Compared, first: bool) -> Markup:
    """The tables of a comparison; how to read them is said with the first."""
    parts = [
        _subhead(
            "By layer",
            "How far apart the group's profile is from the other's, in standard deviations of a step: the root of the "
            "mean square difference over contents and neurons, freed of noise, with its 95 % interval. The neurons "
            f"that part do so beyond chance: of all that are named, at most {100 * measured.level:g} % are expected to "
            "be false. Those with errors part further in the group's worse examples than in its better ones.",
            first,
        ),
        _layers(measured, own),
    ]
    if len(own.neurons):
        parts += [
            _subhead(
                "The neurons",
                "Those that go with errors, in bold, and then the others, the farthest first. The smaller q, the surer "
                "that it parts (the share of chance among all with one as small). Apart as above; more "
                "active (+) or less in the group, over all contents; where it parts most; and the correlation, within "
                "the group, of how far an example parts with its error rate. Picked as the farthest of many, they lie "
                "a little nearer on other data. Where wrong: how much further apart the neuron is where the model "
                "writes wrong than where it writes right, as a share of how far apart the groups are.",
                first,
            ),
            _neurons(measured, own),
        ]
    if own.moved:
        parts += [
            _subhead(
                "Moved towards the other group",
                "The neurons of one layer that part are shifted by their mean difference, and the group's examples are "
                "answered anew; beside it as many random neurons of the layer, shifted as far. Where the errors fall "
                "by the one and not by the other, the parting caused them. Where a neuron parts upwards at one letter "
                "and downwards at another, that stays.",
            ),
            _moved(measured, own.moved),
        ]
    return Markup("").join(parts)


def _layers(measured: MeasuredBias, own: Compared) -> Markup:
    rows = own.layers()
    largest = max(row["interval"][1] for row in rows)
    lines = []
    for row in rows:
        within = "all steps"
        if row["content"] != "all":
            kind = row["content"].replace("_", " ")
            within = f"{row['contents']} × {kind}, {100 * row['covered']:.0f} % of steps"
        lines.append(
            Markup(
                '<tr><th scope="row" class="text"><code>{}</code></th><td class="picture">{}</td>'
                "<td>{:.2f}<small>{:.2f}–{:.2f}</small></td><td>{:,} of {:,}</td><td>{}</td>"
                '<td class="text">{}</td></tr>'
            ).format(
                measured.names[row["site"]], figures.bar(row["apart"], largest), row["apart"], *row["interval"],
                row["parted"], row["units"], formatting.count(row["with_errors"]), within,
            )
        )  # fmt: skip
    head = Markup('<th scope="col" class="text">Layer</th><th scope="col" class="picture">Apart</th>')
    heads = _heads(["", "Neurons that part", "With errors", "Compared within"], text={"Compared within"})
    return _table("Layers", head + heads, lines, "layers")


def _neurons(measured: MeasuredBias, own: Compared) -> Markup:
    lines = []
    for site, unit in own.ranked()[:MOST_NEURONS]:
        told = own.neuron(site, unit)
        most = ", ".join(f"{one['content']} {_signed(one['difference'])}" for one in told["most_in"])
        link = Markup("<td>{}</td>").format(formatting.UNKNOWN)
        if "error_correlation" in told:
            strong = Markup("<b>{}</b>") if told["with_errors"] else Markup("{}")
            link = Markup("<td>{}<small>{} to {}</small></td>").format(
                strong.format(_signed(told["error_correlation"])), *map(_signed, told["error_interval"])
            )
        if "further_where_wrong" in told:
            link += Markup("<td>{} %<small>{} to {} %</small></td>").format(
                *(_percent(value) for value in (told["further_where_wrong"], *told["further_interval"]))
            )
        else:
            link += Markup("<td>{}</td>").format(formatting.UNKNOWN)
        lines.append(
            Markup(
                '<tr><th scope="row" class="text"><code>{}</code> {}<small>q {}</small></th>'
                "<td>{:.2f}<small>{:.2f}–{:.2f}</small></td>"
                '<td>{}<small>{} to {}</small></td><td class="text">{}</td>{}</tr>'
            ).format(
                measured.names[site.name], unit, _small(told["q"]), told["apart"], *told["interval"],
                _signed(told["shift"]), *map(_signed, told["shift_interval"]), most, link,
            )
        )  # fmt: skip
    head = Markup('<th scope="col" class="text">Neuron</th>')
    heads = ["Apart", "More active", "Most in", "With errors", "Where wrong"]
    left = len(own.neurons) - len(lines)
    note = Markup('<p class="note">{} more are in <code>bias.json</code>.</p>').format(formatting.count(left))
    return _table("Neurons", head + _heads(heads, text={"Most in"}), lines, "layers") + (note if left else Markup(""))


def _moved(measured: MeasuredBias, moved: Sequence[Moved]) -> Markup:
    metric = measured.errors.metric
    lines = []
    for own in moved:
        cells = [
            Markup("<td>{}</td><td>{}</td>").format(
                formatting.amount(values[metric.key], metric), formatting.points_range(difference[metric.key], metric)
            )
            for values, difference in ((own.values, own.difference), (own.random, own.random_difference))
        ]
        lines.append(
            Markup('<tr><th scope="row" class="text"><code>{}</code></th><td>{:,}</td>{}</tr>').format(
                measured.names[own.site], own.neurons, Markup("").join(cells)
            )
        )
    head = Markup('<th scope="col" class="text">Layer</th>')
    heads = ["Neurons", metric.label, "Change", "Random ones", "Change"]
    return _table("Moved neurons", head + _heads(heads), lines, "layers")


def _maps(measured: MeasuredBias) -> list[TopographicMap]:
    """Of the groups that part, at the layer where they part most: the contents as pictures, others and group."""
    found = []
    for own in [one for one in measured.ordered if len(one.neurons)][:MOST_MAPS]:
        parting = own.partings[own.site]
        # As a profile: each content's mean less the mean over contents, the same for both, so that shifts are seen.
        group, others = (parting.means / parting.spread).double().numpy()
        middle = others.mean(0)
        names = [content.partition(":")[2] or content for content in parting.contents]
        profiles = (others - middle).T
        try:
            points = sorted_grid(profiles, 0)
        except ValueError:  # too few neurons to lay out
            continue
        label = f"{measured.names[own.site.name]}, {own.group}"
        found.append(TopographicMap(label, np.array(names, dtype=object), points, profiles, (group - middle).T))
    return found


def _subhead(heading: str, how: str, said: bool = True) -> Markup:
    if not said:
        return Markup("<h3>{}</h3>").format(heading)
    return Markup('<h3>{}</h3><p class="how">{}</p>').format(heading, how.replace(" %", "\u00a0%"))


def _heads(names: Sequence[str], text: Any = ()) -> Markup:
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


def _small(q: float) -> str:
    return f"= {q:.4f}" if q >= 0.0001 else "< 0.0001"
