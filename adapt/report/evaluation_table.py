"""Print the result of an evaluation as a table on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from adapt.evaluation.evaluate import EvaluationResult
from adapt.formatting import NO_INTERVAL
from adapt.metrics import Metric
from adapt.terminal import Table


def print_evaluation(result: EvaluationResult) -> None:
    """Print the metrics of each set, each group and each condition."""
    labels = [f"{metric.label}, %" if metric.percent else metric.label for metric in result.metrics]
    table = Table(result.reference, ("", f"{result.example_name}s", labels[0], "95 % interval", *labels[1:]))
    for name, values in result.sets.items():
        table.row(name, *_cells(values, result.metrics), strong=True)
        if "as_written" in values:
            raw = [f"{metric.scale * values['as_written'][metric.key]:.1f}" for metric in result.metrics]
            table.row("  as written", "", raw[0], "", *raw[1:])
        for key, groups in values["groups"].items():
            for group, scores in groups.items():
                table.row(f"  {key} {group}", *_cells(scores, result.metrics))
        for point in result.points:
            if point.chart == name:
                table.row(f"  {point.line}, {point.value:g}", *_cells(point.quality, result.metrics))
        table.rule()
    if result.non_speech is not None:
        sounds, rate = result.non_speech["sounds"], result.non_speech["words_per_minute"]
        table.row("words a minute without speech", f"{sounds:,}", f"{rate:.1f}", "", *[""] * (len(labels) - 1))
    table.show()


def _cells(scores: Mapping[str, Any], metrics: Sequence[Metric]) -> list[str]:
    values = [f"{metric.scale * scores[metric.key]:.1f}" for metric in metrics]
    low, high = (metrics[0].scale * end for end in scores[f"{metrics[0].key}_interval"])
    interval = f"{low:.1f} to {high:.1f}" if scores["examples"] > 1 else NO_INTERVAL
    return [f"{scores['examples']:,}", values[0], interval, *values[1:]]
