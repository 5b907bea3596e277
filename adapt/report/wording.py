"""How the report says things: numbers as text, and the comparison in one honest sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from adapt.comparison import Comparison, SetResult

Verdict = Literal["fell", "rose", "no clear change"]
UNKNOWN = "—"
FEW_UTTERANCES = 30  # fewer make bootstrap intervals too narrow
LONGEST_NAME = 24


def percent(rate: float) -> str:
    """A fraction as percent with one decimal: 0.465 is `46.5 %`."""
    return f"{100 * rate:.1f} %" if math.isfinite(rate) else UNKNOWN


def percent_range(interval: Sequence[float]) -> str:
    """An interval of fractions: `44.0–49.1 %`."""
    low, high = interval
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign: `−28.3`."""
    if not math.isfinite(difference):
        return UNKNOWN
    text = f"{100 * difference:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def points_range(interval: Sequence[float]) -> str:
    """An interval of differences: `−31.0 to −25.8`."""
    low, high = interval
    return f"{points(low)} to {points(high)}"


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
    return percent(part / whole)


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
    """The edits that an utterance gained or lost: `3 words better`, `2 words worse`."""
    return f"{counted(abs(words), 'word')} {'better' if words > 0 else 'worse'}" if words else "no better, no worse"


def verdict(result: SetResult) -> Verdict:
    """What the paired interval lets one claim: a direction only where it leaves out 0."""
    low, high = result.difference
    if high < 0:
        return "fell"
    return "rose" if low > 0 else "no clear change"


def summary(comparison: Comparison) -> str:
    """The result in one sentence."""
    clauses = [_clause(name, result, first=i == 0) for i, (name, result) in enumerate(comparison.sets.items())]
    if not clauses:
        return "Nothing was compared: there was no test set."
    return "; ".join(clauses) + "."


def _clause(name: str, result: SetResult, first: bool) -> str:
    before, after = result.before["wer"], result.after["wer"]
    change = verdict(result)
    aside = [f"forgetting {points(after - before)} points"] if name == "source" else []
    if change == "no clear change":
        aside.append(f"the 95 % interval of the difference, {points_range(result.difference)} points, includes 0")
        start = "There is no clear change in word error rate" if first else "there is no clear change"
        said = f"{start} on the {name}: {percent(before)} before, {percent(after)} after"
    else:
        start = f"Word error rate on the {name}" if first else f"on the {name} it"
        said = f"{start} {change} from {percent(before)} to {percent(after)}"
    if result.before["utterances"] < FEW_UTTERANCES:
        aside.append(f"from only {counted(result.before['utterances'], 'utterance')}")
    return f"{said} ({'; '.join(aside)})" if aside else said
