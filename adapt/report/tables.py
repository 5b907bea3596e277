"""A comparison as plain tables for loggers: named columns and rows of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adapt.comparison.results import Comparison
    from adapt.comparison.words import AlignedWord
    from adapt.metrics import Metric

RECORDING = "recording"  # the column whose cells are MP3 files, as bytes
_BEFORE_AND_AFTER = ("before", "before_low", "before_high", "after", "after_low", "after_high")
_WORD_COLUMNS = (
    "word", "count", "examples", "correct_before", "correct_after", "improved", "worsened", "p_value", "significant",
    "inserted_before", "inserted_after",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table. Each of its `rows` has one value per column; missing values are None."""

    columns: list[str]
    rows: list[list[Any]]


def tables(comparison: Comparison) -> dict[str, Table]:
    """Return all non-empty tables by name: result, groups, words, transcripts, layers, neurons, probes, causes.

    The values are those of `comparison.json`: rates are fractions.
    """
    every = {
        "result": _result(comparison),
        "groups": _groups(comparison),
        "words": _words(comparison),
        "transcripts": _transcripts(comparison),
        "layers": _layers(comparison),
        "neurons": _neurons(comparison),
        "probes": _probes(comparison),
        "causes": _causes(comparison),
    }
    return {name: table for name, table in every.items() if table.rows}


def _value_and_interval(values: Mapping[str, Any], metric: Metric) -> list[float]:
    return [values[metric.key], *values[f"{metric.key}_interval"]]


def _result(comparison: Comparison) -> Table:
    rows = [
        [
            name,
            metric.label,
            *_value_and_interval(result.before, metric),
            *_value_and_interval(result.after, metric),
            result.after[metric.key] - result.before[metric.key],
            *result.difference[metric.key],
            result.before["examples"],
        ]
        for name, result in comparison.sets.items()
        for metric in comparison.metrics
    ]
    difference = ("difference", "difference_low", "difference_high")
    return Table(["set", "metric", *_BEFORE_AND_AFTER, *difference, "examples"], rows)


def _groups(comparison: Comparison) -> Table:
    rows = [
        [
            group.set,
            group.key,
            group.value,
            metric.label,
            *_value_and_interval(group.before, metric),
            *_value_and_interval(group.after, metric),
            group.before["examples"],
        ]
        for group in comparison.groups
        for metric in comparison.metrics
    ]
    return Table(["set", "key", "value", "metric", *_BEFORE_AND_AFTER, "examples"], rows)


def _words(comparison: Comparison) -> Table:
    """Return the table of words that changed; the others, most words of a large set, are left out."""
    rows = [
        [
            name,
            *(getattr(word, column) for column in _WORD_COLUMNS),
            _substitutions(word.substitutions_before),
            _substitutions(word.substitutions_after),
        ]
        for name, changes in comparison.words.items()
        for word in changes.words
        if word.improved or word.worsened
    ]
    return Table(["set", *_WORD_COLUMNS, "substitutions_before", "substitutions_after"], rows)


def _substitutions(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{text or '-'} {count}" for text, count in counts)


def _transcripts(comparison: Comparison) -> Table:
    rows = []
    for index, transcript in enumerate(comparison.transcripts):
        clip = comparison.audio_clips.get(index)
        rows.append(
            [
                transcript.set,
                transcript.name,
                transcript.improvement,
                transcript.source,
                transcript.reference,
                _hypothesis(transcript.before),
                _hypothesis(transcript.after),
                None if clip is None else clip.mp3,
            ]
        )
    return Table(["set", "name", "improvement", "source", "reference", "before", "after", RECORDING], rows)


def _hypothesis(words: Sequence[AlignedWord]) -> str:
    return " ".join(word.hypothesis for word in words if word.hypothesis)


def _layers(comparison: Comparison) -> Table:
    columns = ["name", "total", "trained", "changed", "buffers_changed", "relative", "cosine"]
    layers = comparison.weights.layers if comparison.weights else []
    return Table(columns, [[getattr(layer, column) for column in columns] for layer in layers])


def _neurons(comparison: Comparison) -> Table:
    sites = comparison.neurons.sites if comparison.neurons else []
    rows = []
    for site in sites:
        most_changed = [
            f"{neuron.unit} ({neuron.change:.2f}, {neuron.interval[0]:.2f} to {neuron.interval[1]:.2f})"
            for neuron in site.most_changed
        ]
        rows.append([site.site, site.units, site.changed, site.cka, ", ".join(most_changed)])
    return Table(["site", "neurons", "changed", "cka", "most_changed"], rows)


def _probes(comparison: Comparison) -> Table:
    probes = (comparison.neurons and comparison.neurons.probes) or ()
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
            name,
            cause.part,
            cause.kind,
            cause.weights,
            metric.label,
            causes.before[name][metric.key],
            causes.after[name][metric.key],
            cause.applied[name].values[metric.key],
            *cause.applied[name].difference[metric.key],
            cause.reverted[name].values[metric.key],
            *cause.reverted[name].difference[metric.key],
        ]
        for name in causes.examples
        for cause in causes.parts
        for metric in comparison.metrics
    ]
    ends = [f"{kind}{end}" for kind in ("applied", "reverted") for end in ("", "_difference_low", "_difference_high")]
    return Table(["set", "part", "kind", "weights", "metric", "before", "after", *ends], rows)
