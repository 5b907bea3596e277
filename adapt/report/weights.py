"""The page of changed weights: tables by parameter and by site, and a cell for each neuron."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from adapt import formatting
from adapt.formatting import short_names
from adapt.report import figures
from adapt.report.sections import Section, write_sections

if TYPE_CHECKING:
    from adapt.introspect.weights.measures import ParameterChange, WeightMeasures
    from adapt.introspect.weights.result import WeightsResult
    from interventions.neurons import Neurons, Scores

_SHOWN = 12  # neurons listed per site

_PARAMETERS = (
    "Relative change is the norm of the difference, divided by the norm of the weights before. For a matrix, the table "
    "also shows: the largest singular value of the difference, divided by the largest before (spectral); the number of "
    "directions of the difference (stable rank and effective rank); how far the leading directions before and after "
    "overlap; and the share of elements that differ in any bit."
)


def write_weights(path: Path, result: WeightsResult, title: str, config: str = "") -> None:
    """Write the page of a `WeightsResult` to `path`, atomically."""
    measures = result.measures
    cells = "One cell per neuron, in the order of the layer. The darker the cell, the larger the relative change of {}."
    sections = [
        Section("Parameters", _PARAMETERS, weight_table(measures)),
        Section(
            "Incoming weights of each neuron",
            cells.format("the neuron's own weights and bias"),
            neuron_strips(measures.incoming),
        ),
    ]
    if measures.outgoing.sites:
        how = cells.format("the weights that read the neuron") + " Layers whose units are not read singly are left out."
        sections.append(Section("Outgoing weights of each neuron", how, neuron_strips(measures.outgoing)))
    if measures.floor is not None:
        how = (
            "A second run from the same base with another seed shows how far chance alone moves the weights of a "
            "neuron. A neuron is flagged if both runs moved it in the same direction by more than that. The "
            f"probability of at least one false positive is {100 * result.level:g} %."
        )
        sections.append(Section("Comparison with chance", how, chance_table(measures, measures.flagged(result.level))))
    write_sections(path, title, result.summary, sections, config)


def weight_table(measures: WeightMeasures) -> Markup:
    """Return a table of parameters with at least two axes: relative change, change by chance if known, and rank."""
    rows = [row for row in measures.parameters if len(row.shape) > 1]
    largest = max((row.relative or 0.0 for row in rows), default=0.0)
    with_floor = any(row.floor is not None for row in rows)
    floor = Markup('<th scope="col">By chance</th>') if with_floor else ""
    names = short_names([row.name for row in rows])
    lines = [_parameter_row(row, name, largest, with_floor) for row, name in zip(rows, names, strict=True)]
    return Markup(
        '<div class="scroll" role="region" aria-label="Parameters" tabindex="0"><table class="layers"><thead><tr>'
        '<th scope="col" class="text">Parameter</th><th scope="col" class="picture">Relative change</th>'
        '<th scope="col"></th>{}<th scope="col">Cosine</th><th scope="col">Spectral</th>'
        '<th scope="col">Stable rank</th><th scope="col">Effective rank</th><th scope="col">Overlap</th>'
        '<th scope="col">Changed</th></tr></thead><tbody>{}</tbody></table></div>'
    ).format(floor, Markup("").join(lines))


def _parameter_row(row: ParameterChange, name: str, largest: float, with_floor: bool) -> Markup:
    changed = bool(row.changed)
    texts: list[str] = [_relative(row.relative)]
    if with_floor:
        texts.append(_relative(row.floor))
    texts += [
        formatting.cosine(row.cosine),
        _number(row.spectral, "{:.2g}", changed),
        _number(row.stable_rank, "{:.1f}", changed),
        _number(row.effective_rank, "{:.0f}", changed),
        _number(row.overlap, "{:.2f}", changed),
        f"{100 * row.changed:.0f} %" if row.changed in (0, 1) else f"{100 * row.changed:.1f} %",
    ]
    cells = Markup("").join(Markup("<td>{}</td>").format(text) for text in texts)
    picture = figures.bar(row.relative or 0.0, largest)
    style = Markup("") if changed else Markup(' class="frozen"')
    shape = " × ".join(f"{size:,}" for size in row.shape)
    return Markup(
        '<tr{}><th scope="row" class="text"><code title="{}">{}</code><small>{}</small></th>'
        '<td class="picture">{}</td>{}</tr>'
    ).format(style, row.name, name, shape, picture, cells)


def _relative(value: float | None) -> str:
    return formatting.UNKNOWN if value is None else formatting.relative(value)


def _number(value: float | None, form: str, changed: bool) -> str:
    return formatting.UNKNOWN if value is None or not changed else form.format(value)


def neuron_strips(changes: Scores) -> Markup:
    """Return a strip for each layer, with a cell for each neuron: the darker, the larger its relative change."""
    key = Markup("").join(Markup("<li>{}{}</li>").format(swatch, name) for name, swatch in figures.shade_key()[:-1])
    parts = []
    for site in changes.sites:
        values: Sequence[float] = changes[site].tolist()
        strip = Markup("")
        if any(values):
            strip = Markup(
                '<div class="scroll" role="group" aria-label="Neurons of {}" tabindex="0">{}</div>'
            ).format(site.name, figures.neuron_strip(site.name, values))  # fmt: skip
        parts.append(
            Markup('<div class="units"><header><h4><code>{0}</code></h4><p>{1}</p></header>{2}</div>').format(
                site.name, figures.describe(values), strip
            )
        )
    return Markup('<ul class="key">{}</ul>{}').format(key, Markup("").join(parts))


def chance_table(measures: WeightMeasures, flagged: Neurons) -> Markup:
    """Return a table with a row for each site: median change, median change by chance, and flagged neurons.

    Raises:
        ValueError: The measures have no second run to estimate chance from.
    """
    floor, evidence = measures.floor, measures.evidence
    if floor is None or evidence is None:
        raise ValueError("Chance is estimated from a second run, and there was none.")
    lines = []
    for site in measures.incoming.sites:
        order = evidence[site].sort(descending=True, stable=True).indices.tolist()
        units = [str(unit) for unit in order if unit in flagged[site]]
        shown = ", ".join(units[:_SHOWN] + (["..."] if len(units) > _SHOWN else []))
        lines.append(
            Markup(
                '<tr><th scope="row" class="text"><code>{}</code></th><td>{:,}</td><td>{}</td><td>{}</td><td>{:,}</td>'
                '<td class="text">{}</td></tr>'
            ).format(
                site.name,
                site.units,
                formatting.relative(float(measures.incoming[site].median())),
                formatting.relative(float(floor[site].median())),
                len(units),
                shown,
            )
        )
    return Markup(
        '<div class="scroll" role="region" aria-label="Sites" tabindex="0"><table class="groups"><thead><tr>'
        '<th scope="col" class="text">Site</th><th scope="col">Neurons</th><th scope="col">Median change</th>'
        '<th scope="col">By chance</th><th scope="col">Flagged</th><th scope="col" class="text">Flagged neurons</th>'
        "</tr></thead><tbody>{}</tbody></table></div>"
    ).format(Markup("").join(lines))
