"""The report: a comparison as one self-contained HTML page without scripts. The same data give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from adapt import formatting
from adapt.comparison.words import MIN_CHANGED
from adapt.files import write_text
from adapt.report import conclusions, figures, wording
from adapt.report.blend import blend_section
from adapt.report.causes import cause_tables
from adapt.report.line_chart import history_curve, line_chart
from adapt.report.run_facts import run_facts
from adapt.report.template import environment
from adapt.report.words import MIN_EXAMPLES, transcript_rows, word_tables

if TYPE_CHECKING:
    from adapt.comparison.neurons import NeuronComparison
    from adapt.comparison.results import Comparison, GroupResult, SetResult
    from adapt.introspect.weights.change import LayerChange, WeightChange
    from adapt.metrics import Metric

MAX_GROUPS = 100
_SHOWN_STRIPS = 12  # layers whose neurons are drawn without folding
_SHOWN_SITES = 5  # sites of the table of neurons that are not folded
_DENSE = 24  # tables of groups with more rows are set more tightly
_CURVE_STYLES = ("validation", "second", "third")  # one per metric


def write_report(path: Path | str, comparison: Comparison) -> None:
    """Write the report of a comparison to an HTML file, atomically."""
    write_text(path, render(comparison))


def render(comparison: Comparison) -> str:
    """Return the report as HTML."""
    main = comparison.metrics[0]
    tables = _group_tables(comparison.groups, main)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            comparison=comparison,
            summary=wording.summary(comparison),
            main=main,
            result=_result_table(comparison.sets, comparison.metrics),
            small_sets=_small_sets(comparison),
            FEW_EXAMPLES=wording.FEW_EXAMPLES,
            sections=_sections(comparison, bool(tables)),
            uniform_groups=_uniform_groups(comparison),
            tables=tables,
            words=word_tables(comparison.words),
            transcripts=transcript_rows(comparison),
            MIN_CHANGED=MIN_CHANGED,
            MIN_EXAMPLES=MIN_EXAMPLES,
            history=_history(comparison.history, comparison.metrics),
            weights=comparison.weights and _weights(comparison.weights),
            neurons=comparison.neurons and _neurons(comparison.neurons),
            smoothness=comparison.smoothness,
            blend=comparison.blend and blend_section(comparison.blend),
            unlabelled=comparison.unlabelled,
            causes=comparison.causes and cause_tables(comparison.causes, main),
            conclusions=_conclusions(comparison, tables),
            places={name: wording.set_label(comparison, name) for name in comparison.sets},
            unreadable=[
                name for name, result in comparison.sets.items() if wording.reads_nothing(result.before[main.key], main)
            ],
            shades=figures.shade_key(),
            run_facts=run_facts(comparison),
            word_errors=[(name, text) for name in comparison.sets if (text := wording.word_errors(comparison, name))],
            nothing_read=wording.nothing_read,
            SHOWN_STRIPS=_SHOWN_STRIPS,
            UNITS_PER_ROW=figures.UNITS_PER_ROW,
            share=formatting.share,
            counted=formatting.counted,
        )
    )


def _conclusions(comparison: Comparison, tables: Sequence[_GroupTable]) -> dict[str, str]:
    """Return the sentence that opens each section, by the id of the section."""
    neurons, main = comparison.neurons, comparison.metrics[0]
    places = {name: wording.set_label(comparison, name) for name in comparison.sets}
    opening = {
        "groups": " ".join(
            conclusions.about_groups(
                table.key,
                [row.better for row in table.rows],
                [row.clear for row in table.rows],
                places[table.set],
                main,
            )
            for table in tables
        ),
        "words": conclusions.about_words(comparison),
        "learning": conclusions.about_training(comparison),
    }
    if comparison.unlabelled is not None:
        opening["unlabelled"] = wording.unlabelled_summary(comparison.unlabelled)
    if comparison.weights:
        opening["weights"] = conclusions.about_weights(comparison.weights)
    if neurons:
        opening["neurons"] = conclusions.about_neurons(neurons)
        opening["probes"] = conclusions.about_probes(neurons.probes) if neurons.probes else ""
    if comparison.causes:
        opening["causes"] = conclusions.about_causes(comparison.causes, main, places)
    return opening


def _sections(comparison: Comparison, has_groups: bool) -> list[tuple[str, str]]:
    """Return the id and the heading of each section of the page, in order."""
    neurons = comparison.neurons
    sections = [
        ("result", "Result", True),
        ("blend", "The blend with the base", comparison.blend is not None),
        ("unlabelled", "Adapted without labels", comparison.unlabelled is not None),
        ("groups", "Results by group", has_groups),
        ("words", "Which words changed", bool(comparison.sets)),
        ("learning", "Training", bool(comparison.history)),
        ("weights", "Which weights changed", True),
        ("neurons", "How the neurons changed", neurons is not None),
        ("smoothness", "Topographic layers", comparison.smoothness is not None),
        ("maps", "What the neurons respond to", neurons is not None and bool(neurons.maps)),
        ("causes", "What caused the change", comparison.causes is not None),
        ("about", "What was compared", True),
    ]
    return [(name, heading) for name, heading, present in sections if present]


@dataclass(frozen=True)
class _Row:
    """A row of the result table: one metric on one set."""

    metric: Metric
    difference: float
    interval: tuple[float, float]
    verdict: wording.Verdict
    picture: Markup


def _result_table(sets: Mapping[str, SetResult], metrics: Sequence[Metric]) -> dict[str, Any] | None:
    if not sets:
        return None
    scale = figures.metric_axis(
        [values for result in sets.values() for values in (result.before, result.after)], metrics
    )
    rows = {
        name: [
            _Row(
                metric,
                result.after[metric.key] - result.before[metric.key],
                result.difference[metric.key],
                wording.verdict(result.difference[metric.key], metric),
                figures.interval_pair(f"{name} {metric.label}", result.before, result.after, metric, scale),
            )
            for metric in metrics
        ]
        for name, result in sets.items()
    }
    return {"labels": figures.axis_labels(scale), "rows": rows}


def _small_sets(comparison: Comparison) -> list[str]:
    return [name for name, result in comparison.sets.items() if result.before["examples"] < wording.FEW_EXAMPLES]


def _uniform_groups(comparison: Comparison) -> dict[str, list[GroupResult]]:
    """Return, for each set, those of its groups that contain all of its examples."""
    uniform: dict[str, list[GroupResult]] = {name: [] for name in comparison.sets}
    for group in comparison.groups:
        if group.value != "unknown" and group.before["examples"] == comparison.sets[group.set].before["examples"]:
            uniform[group.set].append(group)
    return uniform


@dataclass(frozen=True)
class _GroupRow:
    group: GroupResult
    metric: Metric
    change: float
    picture: Markup

    @property
    def better(self) -> bool:
        """True if the metric improved."""
        return self.change != 0 and (self.change > 0) == self.metric.higher

    @property
    def clear(self) -> bool:
        """True if the intervals before and after do not overlap. This is stricter than a paired test."""
        key = f"{self.metric.key}_interval"
        (low, high), (new_low, new_high) = self.group.before[key], self.group.after[key]
        return new_high < low or high < new_low


@dataclass(frozen=True)
class _GroupTable:
    set: str
    key: str
    labels: Markup
    rows: list[_GroupRow]
    left_out: int

    @property
    def dense(self) -> bool:
        """True if there are too many rows for normal line spacing."""
        return len(self.rows) > _DENSE


def _group_tables(groups: Sequence[GroupResult], metric: Metric) -> list[_GroupTable]:
    by_table: dict[tuple[str, str], list[GroupResult]] = {}
    for group in groups:
        by_table.setdefault((group.set, group.key), []).append(group)
    return [
        _group_table(name, key, members, metric)
        for (name, key), members in by_table.items()
        if len(members) > 1  # a single group is the whole set, which the result table shows
    ]


def _group_table(name: str, key: str, groups: Sequence[GroupResult], metric: Metric) -> _GroupTable:
    sign = -1 if metric.higher else 1  # the most improved first
    changes = sorted(
        ((group.after[metric.key] - group.before[metric.key], group.value, group) for group in groups),
        key=lambda change: (sign * change[0], change[1]),
    )
    left_out = max(0, len(changes) - MAX_GROUPS)
    if left_out:  # leave out the middle: neither the most improved nor the most worsened groups
        changes = changes[: MAX_GROUPS // 2] + changes[-(MAX_GROUPS // 2) :]
    scale = figures.metric_axis([values for _, _, group in changes for values in (group.before, group.after)], [metric])
    rows = [
        _GroupRow(
            group, metric, change, figures.interval_pair(f"{key} {value}", group.before, group.after, metric, scale)
        )
        for change, value, group in changes
    ]
    return _GroupTable(name, key, figures.axis_labels(scale), rows, left_out)


def _history(history: Sequence[dict[str, float]], metrics: Sequence[Metric]) -> dict[str, Any] | None:
    if not history:
        return None
    main = metrics[0]
    loss = [
        history_curve("training", "training", history, "train_loss"),
        history_curve("validation", "validation", history, "val_loss"),
    ]
    quality = [
        history_curve(metric.label, style, history, f"val_{metric.key}", metric.scale)
        for metric, style in zip(metrics, _CURVE_STYLES, strict=False)
    ]
    sign = -1 if main.higher else 1
    values = quality[0].values
    names = {
        "train_loss": "Training loss",
        "penalty_loss": "Penalty",
        "topographic_loss": "Topographic loss",
        "val_loss": "Validation loss",
        **{f"val_{metric.key}": f"Validation {metric.label}" for metric in metrics},
        "learning_rate": "Learning rate",
        "seconds": "Time",
    }
    return {
        "rows": history,
        "loss": line_chart("Loss by epoch", loss),
        "quality": line_chart("Validation metrics by epoch", quality, main.unit),
        "best": min(values, key=lambda epoch: (sign * values[epoch], epoch)) if values else None,
        "keys": [key for key in names if any(key in row for row in history)],
        "names": names,
        "metrics": {f"val_{metric.key}": metric for metric in metrics},
    }


@dataclass(frozen=True)
class _LayerRow:
    layer: LayerChange
    state: str
    bar: Markup
    strip: Markup
    neurons: str


def _weights(weights: WeightChange) -> dict[str, Any]:
    # It is unknown which weights were trained if no training run made the models.
    known = weights.trained > 0
    largest = max((layer.relative for layer in weights.layers if layer.relative < float("inf")), default=0.0)
    rows = [
        _LayerRow(
            layer,
            _state(layer, known),
            figures.bar(layer.relative, largest),
            figures.neuron_strip(layer.name, layer.neurons),
            figures.describe(layer.neurons),
        )
        for layer in weights.layers
    ]
    untrained = [row for row in rows if row.layer.trained == 0]
    return {
        "change": weights,
        "known": known,
        "rows": rows,
        "untrained": len(untrained),
        "identical": sum(row.state != "" for row in untrained),
        "drifted": [row.layer.name for row in untrained if row.state == ""],
    }


def _state(layer: LayerChange, known: bool) -> str:
    if layer.trained or layer.changed or layer.buffers_changed:
        return ""
    return "frozen: bit-identical" if known else "bit-identical"


def _neurons(neurons: NeuronComparison) -> dict[str, Any]:
    from adapt.report.maps import map_section
    from adapt.report.probes import probe_table
    from adapt.report.similarity import similarity_figure

    group_by = neurons.group_by.replace("_", " ")
    by_change = sorted(neurons.sites, key=lambda site: (-site.changed / site.units, site.site))
    return {
        "group_by": group_by,
        "examples": neurons.examples,
        "sites": {"shown": by_change[:_SHOWN_SITES], "folded": by_change[_SHOWN_SITES:]},
        "changed": sum(site.changed for site in neurons.sites),
        "units": sum(site.units for site in neurons.sites),
        "similarity": similarity_figure(neurons.similarity),
        "target": neurons.probes and neurons.probes[0].target,
        "probes": neurons.probes and probe_table(*neurons.probes),
        "maps": map_section(neurons.maps, f"{group_by} profile", conclusion=conclusions.about_maps(neurons.maps))
        if neurons.maps
        else None,
    }
