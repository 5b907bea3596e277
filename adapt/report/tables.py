"""A comparison as tables, for loggers that have such: columns with names, rows of plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adapt.comparison.results import Comparison
    from adapt.comparison.words import Word
    from adapt.metrics import Metric

RECORDING = "recording"  # the column whose cells are MP3 files, as bytes


@dataclass(frozen=True)
class Table:
    """`rows` have a value for each of the `columns`, None where there is none."""

    columns: list[str]
    rows: list[list[Any]]


def tables(comparison: Comparison) -> dict[str, Table]:
    """What was compared, by what a table is of: result, groups, words, transcripts, layers, neurons, probes, causes.

    Values are those of `comparison.json`: rates are fractions. A table without rows is left out.
    """
    found = {
        "result": _result(comparison), "groups": _groups(comparison), "words": _words(comparison),
        "transcripts": _transcripts(comparison), "layers": _layers(comparison), "neurons": _neurons(comparison),
        "probes": _probes(comparison), "causes": _causes(comparison),
    }  # fmt: skip
    return {name: table for name, table in found.items() if table.rows}


def _quality(own: Mapping[str, Any], metric: Metric) -> list[float]:
    return [own[metric.key], *own[f"{metric.key}_interval"]]


_QUALITY = ["before", "before_low", "before_high", "after", "after_low", "after_high"]


def _result(comparison: Comparison) -> Table:
    rows = [
        [
            name, metric.label, *_quality(own.before, metric), *_quality(own.after, metric),
            own.after[metric.key] - own.before[metric.key], *own.difference[metric.key], own.before["examples"],
        ]
        for name, own in comparison.sets.items()
        for metric in comparison.metrics
    ]  # fmt: skip
    ends = ["difference", "difference_low", "difference_high", "examples"]
    return Table(["set", "metric", *_QUALITY, *ends], rows)


def _groups(comparison: Comparison) -> Table:
    rows = [
        [
            group.set, group.key, group.value, metric.label, *_quality(group.before, metric),
            *_quality(group.after, metric), group.before["examples"],
        ]
        for group in comparison.groups
        for metric in comparison.metrics
    ]  # fmt: skip
    return Table(["set", "key", "value", "metric", *_QUALITY, "examples"], rows)


def _words(comparison: Comparison) -> Table:
    """Those that changed: of a large set most have not."""
    columns = ["word", "count", "examples", "before", "after", "gained", "lost", "p", "clear", "extra_before"]
    columns += ["extra_after"]
    rows = [
        [
            name, *(getattr(word, column) for column in columns),
            *(", ".join(f"{text or '-'} {times}" for text, times in instead)
              for instead in (word.instead_before, word.instead_after)),
        ]
        for name, found in comparison.words.items()
        for word in found.words
        if word.gained or word.lost
    ]  # fmt: skip
    return Table(["set", *columns, "instead_before", "instead_after"], rows)


def _transcripts(comparison: Comparison) -> Table:
    rows = []
    for place, own in enumerate(comparison.transcripts):
        recording = comparison.recordings.get(place)
        rows.append([
            own.set, own.name, own.better, own.source, own.reference, _written(own.before), _written(own.after),
            None if recording is None else recording.mp3,
        ])  # fmt: skip
    return Table(["set", "name", "words_better", "source", "reference", "before", "after", RECORDING], rows)


def _written(words: Sequence[Word]) -> str:
    return " ".join(word.written for word in words if word.written)


def _layers(comparison: Comparison) -> Table:
    columns = ["name", "total", "trained", "changed", "buffers_changed", "relative", "cosine"]
    layers = comparison.weights.layers if comparison.weights else []
    return Table(columns, [[getattr(layer, column) for column in columns] for layer in layers])


def _neurons(comparison: Comparison) -> Table:
    sites = comparison.inside.sites if comparison.inside else []
    rows = [
        [
            own.site,
            own.units,
            own.flagged,
            own.alike,
            ", ".join(
                f"{unit} ({size:.2f}, {low:.2f} to {high:.2f})"
                for (unit, size), (low, high) in zip(own.top, own.intervals, strict=True)
            ),
        ]
        for own in sites
    ]
    return Table(["site", "neurons", "changed", "cka", "most_changed"], rows)


def _probes(comparison: Comparison) -> Table:
    probes = (comparison.inside and comparison.inside.probes) or ()
    rows = [
        [probe.target, when, row.site, row.accuracy, *row.interval, row.control, row.selectivity, probe.chance]
        for when, probe in zip(("before", "after"), probes, strict=False)
        for row in probe.rows
    ]
    columns = ["accuracy", "accuracy_low", "accuracy_high", "control", "selectivity", "chance"]
    return Table(["target", "model", "site", *columns], rows)


def _causes(comparison: Comparison) -> Table:
    causes = comparison.causes
    if causes is None:
        return Table([], [])
    rows = [
        [
            name, cause.part, cause.kind, cause.weights, metric.label, causes.before[name][metric.key],
            causes.after[name][metric.key], cause.alone[name].values[metric.key],
            *cause.alone[name].difference[metric.key], cause.without[name].values[metric.key],
            *cause.without[name].difference[metric.key],
        ]
        for name in causes.examples
        for cause in causes.parts
        for metric in comparison.metrics
    ]  # fmt: skip
    ends = [f"{kind}{end}" for kind in ("alone", "put_back") for end in ("", "_difference_low", "_difference_high")]
    return Table(["set", "part", "kind", "weights", "metric", "before", "after", *ends], rows)
