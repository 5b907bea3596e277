"""A comparison as one HTML page that needs nothing else: no script, no network; same data, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from adapt import formatting
from adapt.comparison.words import FEWEST
from adapt.files import write_text
from adapt.report import figures, wording
from adapt.report.template import environment
from adapt.report.words import SHOWN, transcript_rows, word_tables

if TYPE_CHECKING:
    from adapt.comparison.causes import Cause, Causes
    from adapt.comparison.neurons import NeuronComparison
    from adapt.comparison.results import Comparison, GroupResult, SetResult
    from adapt.introspect.weights.change import LayerChange, WeightChange
    from adapt.metrics import Metric

MOST_GROUPS = 100


def write_report(comparison: Comparison, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render(comparison))


def render(comparison: Comparison) -> str:
    """The page as text."""
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            comparison=comparison,
            summary=wording.summary(comparison),
            main=comparison.metrics[0],
            result=_result_table(comparison.sets, comparison.metrics),
            few=[name for name, result in comparison.sets.items() if result.before["examples"] < wording.FEW_EXAMPLES],
            FEW_EXAMPLES=wording.FEW_EXAMPLES,
            parts=_parts(comparison),
            alike=_alike(comparison),
            tables=_group_tables(comparison.groups, comparison.metrics[0]),
            words=word_tables(comparison.words),
            transcripts=transcript_rows(comparison),
            FEWEST=FEWEST,
            SHOWN=SHOWN,
            history=_learning(comparison.history, comparison.metrics),
            weights=comparison.weights and _weights(comparison.weights),
            inside=comparison.inside and _inside(comparison.inside),
            order=comparison.order,
            causes=comparison.causes and _causes(comparison.causes, comparison.metrics[0]),
            shades=figures.shade_key(),
            UNITS_A_ROW=figures.UNITS_A_ROW,
            share=formatting.share,
            counted=formatting.counted,
        )
    )


@dataclass(frozen=True)
class _Row:
    """A row of the result table."""

    metric: Metric
    difference: float
    interval: tuple[float, float]
    verdict: wording.Verdict
    picture: Markup


def _result_table(sets: Mapping[str, SetResult], metrics: Sequence[Metric]) -> dict[str, Any] | None:
    if not sets:
        return None
    scale = figures.metric_axis([own for result in sets.values() for own in (result.before, result.after)], metrics)
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


@dataclass(frozen=True)
class _GroupRow:
    group: GroupResult
    metric: Metric
    change: float
    picture: Markup

    @property
    def better(self) -> bool:
        """Whether the change is to the better."""
        return self.change != 0 and (self.change > 0) == self.metric.higher

    @property
    def clear(self) -> bool:
        """Whether the intervals before and after are apart: a stricter test than a paired one, which groups lack."""
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
        """Whether the rows must be close together to be seen at once."""
        return len(self.rows) > 24


def _group_tables(groups: Sequence[GroupResult], metric: Metric) -> list[_GroupTable]:
    by_table: dict[tuple[str, str], list[GroupResult]] = {}
    for group in groups:
        by_table.setdefault((group.set, group.key), []).append(group)
    return [
        _group_table(name, key, found, metric)
        for (name, key), found in by_table.items()
        if len(found) > 1  # examples that all are of one group are what the result table shows already
    ]


def _alike(comparison: Comparison) -> dict[str, list[GroupResult]]:
    """The groups, by set, that all examples of it are of."""
    whole: dict[str, list[GroupResult]] = {name: [] for name in comparison.sets}
    for group in comparison.groups:
        if group.value != "unknown" and group.before["examples"] == comparison.sets[group.set].before["examples"]:
            whole[group.set].append(group)
    return whole


def _parts(comparison: Comparison) -> list[tuple[str, str]]:
    """The page's sections: the name of each, and its heading."""
    tables = _group_tables(comparison.groups, comparison.metrics[0])
    sections = [
        ("result", "Result", True), ("groups", "Who gained and who lost", tables),
        ("words", "What changed in the words", comparison.sets), ("learning", "How it learned", comparison.history),
        ("weights", "Which weights changed", True), ("inside", "What the neurons do now", comparison.inside),
        ("maps", "What the neurons respond to", comparison.inside and comparison.inside.maps),
        ("causes", "What caused it", comparison.causes), ("about", "What was compared", True),
    ]  # fmt: skip
    return [(name, heading) for name, heading, there in sections if there]


def _group_table(name: str, key: str, found: Sequence[GroupResult], metric: Metric) -> _GroupTable:
    sign = -1 if metric.higher else 1  # the most improved first
    changes = sorted(
        ((group.after[metric.key] - group.before[metric.key], group.value, group) for group in found),
        key=lambda change: (sign * change[0], change[1]),
    )
    left_out = max(0, len(changes) - MOST_GROUPS)
    if left_out:  # those in the middle changed least
        changes = changes[: MOST_GROUPS // 2] + changes[-(MOST_GROUPS // 2) :]
    scale = figures.metric_axis([own for _, _, group in changes for own in (group.before, group.after)], [metric])
    rows = [
        _GroupRow(
            group, metric, change, figures.interval_pair(f"{key} {value}", group.before, group.after, metric, scale)
        )
        for change, value, group in changes
    ]
    return _GroupTable(name, key, figures.axis_labels(scale), rows, left_out)


_STYLES = ("validation", "second", "third")  # of a metric's curve, in the metrics' order


def _learning(history: Sequence[dict[str, float]], metrics: Sequence[Metric]) -> dict[str, Any] | None:
    if not history:
        return None
    loss = [
        figures.curve("training", "training", history, "train_loss"),
        figures.curve("validation", "validation", history, "val_loss"),
    ]
    quality = [
        figures.curve(metric.label, style, history, f"val_{metric.key}", metric.scale)
        for metric, style in zip(metrics, _STYLES, strict=False)
    ]
    sign = -1 if metrics[0].higher else 1
    values = quality[0].values
    names = {"train_loss": "Training loss", "keep_loss": "Penalty", "topographic_loss": "Topographic loss"}
    names |= {"val_loss": "Validation loss"}
    names |= {f"val_{metric.key}": f"Validation {metric.label}" for metric in metrics}
    names |= {"learning_rate": "Learning rate", "seconds": "Time"}
    return {
        "rows": history,
        "loss": figures.curves("Loss by epoch", loss),
        "quality": figures.curves("The validation set by epoch", quality, " %" * metrics[0].percent),
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
    # Two models that already exist do not tell what was free to change when one became the other.
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


@dataclass(frozen=True)
class _CauseRow:
    cause: Cause
    alone: float
    alone_interval: tuple[float, float]
    alone_verdict: wording.Verdict
    without: float
    without_interval: tuple[float, float]
    without_verdict: wording.Verdict
    picture: Markup


def _causes(causes: Causes, metric: Metric) -> dict[str, Any]:
    key, tables = metric.key, {}
    for name, count in causes.examples.items():
        ends = causes.before[name][key], causes.after[name][key]
        values = [own[name].values[key] for cause in causes.parts for own in (cause.alone, cause.without)]
        scale = figures.axis(0.0, max(round(metric.scale * value, 9) for value in (*ends, *values)))
        rows = [
            _CauseRow(
                cause,
                alone.values[key],
                alone.difference[key],
                wording.verdict(alone.difference[key], metric),
                without.values[key],
                without.difference[key],
                wording.verdict(without.difference[key], metric),
                figures.cause_row(cause.part, (alone.values[key], without.values[key]), ends, metric, scale),
            )
            for cause in causes.parts
            for alone, without in [(cause.alone[name], cause.without[name])]
        ]
        tables[name] = {"ends": ends, "rows": rows, "labels": figures.axis_labels(scale), "examples": count}
    return {
        "tables": tables,
        "kept": causes.kept,
        "patched": {name: _patched(causes, name) for name in causes.losses},
        "layers": [patched.layer for patched in causes.patched],
    }


def _patched(causes: Causes, name: str) -> Markup | None:
    numbered = list(enumerate(causes.patched, start=1))
    lines = [
        figures.Curve("into after", "second", {n: own.before[name] for n, own in numbered}),
        figures.Curve("into before", "validation", {n: own.after[name] for n, own in numbered}),
    ]
    return figures.curves(f"Loss on the {name} with exchanged activations", lines, along="layer")


def _inside(inside: NeuronComparison) -> dict[str, Any]:
    from adapt.report.maps import map_section
    from adapt.report.probes import probe_table
    from adapt.report.similarity import similarity_figure

    return {
        "key": inside.key.replace("_", " "),
        "examples": inside.examples,
        "sites": inside.sites,
        "flagged": sum(site.flagged for site in inside.sites),
        "units": sum(site.units for site in inside.sites),
        "similarity": similarity_figure(inside.similarity),
        "target": inside.probes and inside.probes[0].target,
        "probes": inside.probes and probe_table(*inside.probes),
        "maps": map_section(inside.maps, f"{inside.key.replace('_', ' ')} profile") if inside.maps else None,
    }
