"""How the report says things: numbers as text, and the comparison in one honest sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from adapt.formatting import amount, counted, points, points_range

if TYPE_CHECKING:
    from adapt.comparison.results import Comparison
    from adapt.metrics import Metric

Verdict = Literal["better", "worse", "no clear change"]
FEW_EXAMPLES = 30  # fewer make bootstrap intervals too narrow


def better(words: int) -> str:
    """The edits that an example gained or lost: `3 words better`, `2 words worse`."""
    return f"{counted(abs(words), 'word')} {'better' if words > 0 else 'worse'}" if words else "no better, no worse"


def verdict(difference: Sequence[float], metric: Metric) -> Verdict:
    """What the paired interval lets one claim: better or worse only where it leaves out 0."""
    low, high = difference
    if low <= 0 <= high:
        return "no clear change"
    return "better" if (low > 0) == metric.higher else "worse"


def summary(comparison: Comparison) -> str:
    """The result in one sentence, by the metric that counts most."""
    clauses = [_clause(comparison, name, first=i == 0) for i, name in enumerate(comparison.sets)]
    if not clauses:
        return "Nothing was compared: there was no test set."
    return "; ".join(clauses) + "."


def _clause(comparison: Comparison, name: str, first: bool) -> str:
    metric, result = comparison.metrics[0], comparison.sets[name]
    before, after, interval = result.before[metric.key], result.after[metric.key], result.difference[metric.key]
    lost = before - after if metric.higher else after - before
    aside = [f"forgetting {points(lost, metric)} points"] if name == "source" else []
    if verdict(interval, metric) == "no clear change":
        aside.append(f"the 95 % interval of the difference, {points_range(interval, metric)} points, includes 0")
        start = f"There is no clear change in {metric.name}" if first else "there is no clear change"
        said = f"{start} on the {name}: {amount(before, metric)} before, {amount(after, metric)} after"
    else:
        start = f"{metric.name[0].upper()}{metric.name[1:]} on the {name}" if first else f"on the {name} it"
        direction = "fell" if interval[1] < 0 else "rose"
        said = f"{start} {direction} from {amount(before, metric)} to {amount(after, metric)}"
    if result.before["examples"] < FEW_EXAMPLES:
        aside.append(f"from only {counted(result.before['examples'], comparison.example_name)}")
    return f"{said} ({'; '.join(aside)})" if aside else said
