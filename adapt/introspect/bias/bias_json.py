"""Convert group comparisons to JSON and back; also reads version 1 of `bias.json`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from adapt.introspect.bias.group_results import GroupComparison, GroupRate
from adapt.introspect.bias.rows import ContentDifference, LayerDivergence, NeuronDivergence
from adapt.introspect.bias.shift import ShiftEffect
from adapt.metrics import CER, WER, Metric
from interventions.neurons import Scores

FORMAT = 2
Row = dict[str, Any]


def rate_to_json(rate: GroupRate, metric: Metric, resampled: str) -> Row:
    """Return the row of `groups` for a rate, with keys named after the metric and the unit that is resampled."""
    row: Row = {
        "group": rate.group,
        "examples": rate.examples,
        f"{resampled}s": rate.units,
        metric.key: rate.rate,
        f"{metric.key}_interval": list(rate.interval),
    }
    if rate.reference is not None and rate.difference_interval is not None:
        row |= {
            "reference": rate.reference,
            "reference_rate": rate.reference_rate,
            "difference": rate.difference,
            "difference_interval": list(rate.difference_interval),
        }
    return row


def rate_from_json(row: Mapping[str, Any], metric: Metric, resampled: str) -> GroupRate:
    """Return the rate that a row of `groups` stores."""
    difference = row.get("difference_interval")
    return GroupRate(
        group=row["group"],
        examples=row["examples"],
        units=row[f"{resampled}s"],
        rate=row[metric.key],
        interval=tuple(row[f"{metric.key}_interval"]),
        reference=row.get("reference"),
        reference_rate=row.get("reference_rate"),
        difference=row.get("difference"),
        difference_interval=None if difference is None else tuple(difference),
    )


def comparison_to_json(comparison: GroupComparison) -> Row:
    """Return the row of `comparisons` for a comparison, which counts the diverging neurons without listing them."""
    row: Row = {
        "group": comparison.group,
        "reference": comparison.reference,
        "diverging": len(comparison.neurons),
        "error_linked": sum(bool(row.error_linked) for row in comparison.neurons),
        "top_site": comparison.top_site,
        "layers": [asdict(layer) | {"interval": list(layer.interval)} for layer in comparison.layers],
    }
    if comparison.shifts:
        row["shifted"] = [asdict(effect) for effect in comparison.shifts]
    return row


def comparison_from_json(row: Mapping[str, Any], neurons: Sequence[Row], scores: Scores | None) -> GroupComparison:
    """Return the comparison that a row of `comparisons` and its rows of `neurons` store."""
    return GroupComparison(
        group=row["group"],
        reference=row["reference"],
        layers=tuple(LayerDivergence(**{**layer, "interval": tuple(layer["interval"])}) for layer in row["layers"]),
        neurons=tuple(map(_neuron_from_json, neurons)),
        scores=scores,
        top_site=row["top_site"],
        shifts=tuple(map(_shift_from_json, row.get("shifted", ()))),
    )


def file_stem(name: str) -> str:
    """Return the name of a group or a map as the stem of a file name."""
    return re.sub(r"[^\w]+", "-", name).strip("-") or "group"


def neuron_to_json(neuron: NeuronDivergence) -> Row:
    """Return the row of `neurons` for a neuron, without the fields that are None."""
    return {name: value for name, value in asdict(neuron).items() if value is not None}


def _neuron_from_json(row: Mapping[str, Any]) -> NeuronDivergence:
    values: Row = {name: tuple(value) if name.endswith("interval") else value for name, value in row.items()}
    values["top_contents"] = tuple(ContentDifference(**content) for content in row["top_contents"])
    return NeuronDivergence(**values)


def _shift_from_json(row: Mapping[str, Any]) -> ShiftEffect:
    intervals = {
        name: {key: tuple(interval) for key, interval in row[name].items()}
        for name in ("difference", "random_difference")
    }
    return ShiftEffect(**{**row, **intervals})


# Version 1: the keys that were renamed since, and what it did not store.

_RENAMED = {
    "against": "reference",
    "apart": "distance",
    "by": "group_by",
    "covered": "coverage",
    "error_q": "error_q_value",
    "false_discoveries": "false_discovery_rate",
    "further_interval": "excess_interval",
    "further_where_wrong": "excess_at_errors",
    "most_in": "top_contents",
    "moved": "shifted",
    "parted": "diverging",
    "q": "q_value",
    "with_errors": "error_linked",
}
_TER = Metric("ter", "TER", "translation edit rate", percent=False)


def upgrade(stored: Row) -> Row:
    """Return the content of `bias.json` in the current format."""
    if stored["format"] == FORMAT:
        return stored
    stored = _renamed(stored)
    metric = next(metric for metric in (WER, CER, _TER) if metric.key in stored["groups"][0])
    rates = [_with_reference_rate(_renamed(row), metric) for row in stored["groups"]]
    comparisons = [_with_top_site(_renamed(row)) for row in stored["comparisons"]]
    return stored | {
        "format": FORMAT,
        "groups": rates,
        "comparisons": comparisons,
        "neurons": {group: [_renamed(row) for row in rows] for group, rows in stored["neurons"].items()},
        "example_name": "sentence" if metric is _TER else "utterance",
        "metric": asdict(metric),
        "scores": {
            row["group"]: f"scores/{file_stem(row['group'])}.safetensors" for row in comparisons if row["layers"]
        },
        "maps": [],
    }


def _renamed(row: Mapping[str, Any]) -> Row:
    return {_RENAMED.get(name, name): value for name, value in row.items()}


def _with_reference_rate(row: Row, metric: Metric) -> Row:
    return row | {"reference_rate": row[metric.key] - row["difference"]} if "difference" in row else row


def _with_top_site(row: Row) -> Row:
    layers = [_renamed(layer) for layer in row["layers"]]
    top = max(layers, key=lambda layer: layer["distance"])["site"] if layers else None
    return row | {"layers": layers, "top_site": top}
