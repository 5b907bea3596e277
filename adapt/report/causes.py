"""What caused the change, in the report: a table of parts for each set, and the losses with patched activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from adapt import formatting
from adapt.report import figures, wording
from adapt.report.line_chart import Curve, line_chart

if TYPE_CHECKING:
    from adapt.comparison.causes import Cause, Causes
    from adapt.metrics import Metric


@dataclass(frozen=True)
class _CauseRow:
    """A row of the table of causes: the metric with a part applied alone, and with it reverted."""

    cause: Cause
    applied: float
    applied_interval: tuple[float, float]
    applied_verdict: wording.Verdict
    reverted: float
    reverted_interval: tuple[float, float]
    reverted_verdict: wording.Verdict
    picture: Markup


def cause_tables(causes: Causes, metric: Metric) -> dict[str, Any]:
    """Return what the section draws: a table and a chart of patched losses for each set."""
    return {
        "tables": {name: _cause_table(causes, name, metric) for name in causes.examples},
        "not_reverted": causes.not_reverted,
        "patched": {name: _patched(causes, name) for name in causes.losses},
    }


def _cause_table(causes: Causes, name: str, metric: Metric) -> dict[str, Any]:
    key = metric.key
    ends = causes.before[name][key], causes.after[name][key]
    values = [effects[name].values[key] for cause in causes.parts for effects in (cause.applied, cause.reverted)]
    scale = figures.axis(0.0, max(round(metric.scale * value, 9) for value in (*ends, *values)))
    rows = []
    for cause in causes.parts:
        applied, reverted = cause.applied[name], cause.reverted[name]
        rows.append(
            _CauseRow(
                cause,
                applied.values[key],
                applied.difference[key],
                wording.verdict(applied.difference[key], metric),
                reverted.values[key],
                reverted.difference[key],
                wording.verdict(reverted.difference[key], metric),
                figures.cause_row(cause.part, (applied.values[key], reverted.values[key]), ends, metric, scale),
            )
        )
    return {"ends": ends, "rows": rows, "labels": figures.axis_labels(scale), "examples": causes.examples[name]}


def _patched(causes: Causes, name: str) -> Markup | None:
    numbered = list(enumerate(causes.patched))
    lines = [
        Curve("into after", "second", {n: layer.into_after[name] for n, layer in numbered}),
        Curve("into before", "validation", {n: layer.into_before[name] for n, layer in numbered}),
    ]
    layers = formatting.short_names([layer.layer for layer in causes.patched])
    return line_chart(f"Loss on the {name} set with patched activations", lines, x_names=layers)
