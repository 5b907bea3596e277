"""How the report says things: numbers as text, and the comparison in one honest sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from adapt.comparison import Comparison
    from adapt.metrics import Metric

Verdict = Literal["better", "worse", "no clear change"]
UNKNOWN = "—"
FEW_EXAMPLES = 30  # fewer make bootstrap intervals too narrow
LONGEST_NAME = 24


def amount(value: float, metric: Metric) -> str:
    """A metric's value with one decimal: a WER of 0.465 is `46.5 %`, a BLEU of 46.5 is `46.5`."""
    return f"{metric.scale * value:.1f}{' %' * metric.percent}" if math.isfinite(value) else UNKNOWN


def amount_range(interval: Sequence[float], metric: Metric) -> str:
    """An interval of values: `44.0–49.1 %`."""
    low, high = (metric.scale * end for end in interval)
    return f"{low:.1f}–{high:.1f}{' %' * metric.percent}"


def points(difference: float, metric: Metric) -> str:
    """A difference of values in (percentage) points, with its sign: `−28.3`."""
    if not math.isfinite(difference):
        return UNKNOWN
    text = f"{metric.scale * difference:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def points_range(interval: Sequence[float], metric: Metric) -> str:
    """An interval of differences: `−31.0 to −25.8`."""
    low, high = interval
    return f"{points(low, metric)} to {points(high, metric)}"


def count(number: int) -> str:
    """A count with thousands separators: `23,282,529`."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """A count with its noun in the right number: `1 word`, `1,204 words`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def share(part: int, whole: int) -> str:
    """A part of a whole in percent; neither rounded to 0 % where there is some, nor to 100 % where some is missing."""
    if not whole:
        return UNKNOWN
    if 0 < part / whole < 0.001:
        return "under 0.1 %"
    if 0.999 < part / whole < 1:
        return "over 99.9 %"
    return f"{100 * part / whole:.1f} %"


def relative(change: float) -> str:
    """A relative change of weights in percent with two meaningful digits, as these span several orders of magnitude."""
    if not math.isfinite(change):
        return UNKNOWN
    value = 100 * change
    if value == 0:
        return "0 %"
    if 0 < value < 0.01:
        return "under 0.01 %"
    if value >= 10_000:
        return "over 10,000 %"
    return f"{value:.2f} %" if value < 1 else f"{value:.1f} %" if value < 100 else f"{value:,.0f} %"


def cosine(value: float) -> str:
    """A cosine with four decimals."""
    return f"{value:.4f}".replace("-", "−") if math.isfinite(value) else UNKNOWN


def probability(value: float) -> str:
    """A p-value with two meaningful digits: `0.031`, `under 0.001`."""
    return "under 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """A time in words: `6 min 12 s`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{seconds:.1f} s" if whole < 10 else f"{whole} s"


def short(name: str) -> str:
    """A name with the middle of its overlong words left out: corpora have speakers whose names are 128 hex digits."""
    return " ".join(f"{word[:12]}…{word[-4:]}" if len(word) > LONGEST_NAME else word for word in name.split(" "))


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
        aside.append(f"from only {counted(result.before['examples'], comparison.noun)}")
    return f"{said} ({'; '.join(aside)})" if aside else said
