"""Formatting of numbers and names for reports and messages: `46.5 %`, `−28.3`, `1,234`, `2 min 5 s`."""

import math
from collections.abc import Sequence
from typing import Protocol

UNKNOWN = "—"
NO_INTERVAL = "no interval"
LONGEST_WORD = 24  # characters


class Metric(Protocol):
    """How to display a metric (`adapt.metrics.Metric`): the factor from value to shown number, and the unit."""

    @property
    def scale(self) -> float: ...

    @property
    def unit(self) -> str: ...


def amount(value: float, metric: Metric) -> str:
    """Format a metric's value with one decimal and its unit: a WER of 0.465 as `46.5 %`, a BLEU of 46.5 as `46.5`."""
    return f"{metric.scale * value:.1f}{metric.unit}" if math.isfinite(value) else UNKNOWN


def amount_range(interval: Sequence[float], metric: Metric, units: int = 2) -> str:
    """Format an interval of a metric's values: `44.0–49.1 %`. One resampled unit, such as an utterance, has none."""
    if units < 2:
        return NO_INTERVAL
    low, high = (metric.scale * end for end in interval)
    return f"{low:.1f}–{high:.1f}{metric.unit}"


def points(difference: float, metric: Metric) -> str:
    """Format a difference of a metric's values in (percentage) points, with its sign: `−28.3`."""
    if not math.isfinite(difference):
        return UNKNOWN
    text = f"{metric.scale * difference:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def points_range(interval: Sequence[float], metric: Metric, units: int = 2) -> str:
    """Format an interval of differences: `−31.0 to −25.8`. One resampled unit, such as an utterance, has none."""
    if units < 2:
        return NO_INTERVAL
    low, high = interval
    return f"{points(low, metric)} to {points(high, metric)}"


def count(number: int) -> str:
    """Format a count with thousands separators: `23,282,529`."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """Format a count with its noun in the singular or plural: `1 word`, `1,204 words`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def share(part: int, whole: int) -> str:
    """Format `part` of `whole` in percent. Only 0 becomes `0.0 %`, and only all of `whole` becomes `100.0 %`."""
    if not whole:
        return UNKNOWN
    if 0 < part / whole < 0.001:
        return "under 0.1 %"
    if 0.999 < part / whole < 1:
        return "over 99.9 %"
    return f"{100 * part / whole:.1f} %"


def relative(change: float) -> str:
    """Format a relative change of weights in percent, with more decimals the smaller it is: `0.12 %`, `350 %`."""
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
    """Format a cosine with four decimals."""
    return f"{value:.4f}".replace("-", "−") if math.isfinite(value) else UNKNOWN


def probability(value: float) -> str:
    """Format a p-value: `0.25`, `0.031`, `under 0.001`."""
    return "under 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Format a duration: `1 h 5 min`, `6 min 12 s`, `3.5 s`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{seconds:.1f} s" if whole < 10 else f"{whole} s"


def short(name: str) -> str:
    """Cut out the middle of overlong words in a name: some corpora have speaker names of 128 hex digits."""
    return " ".join(f"{word[:12]}…{word[-4:]}" if len(word) > LONGEST_WORD else word for word in name.split(" "))


def short_names(names: Sequence[str]) -> list[str]:
    """Return dotted names without the leading parts that they all share."""
    paths = [name.split(".") for name in names]
    shared = 0
    while len(paths) > 1 and all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    return [".".join(path[shared:]) for path in paths]
