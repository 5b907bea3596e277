"""How numbers and names are written for people: `46.5 %`, `−28.3`, `1,234 of 5,000`, `2 min 5 s`."""

import math
from collections.abc import Sequence

from adapt.metrics import Metric

UNKNOWN = "—"


LONGEST_NAME = 24


def amount(value: float, metric: Metric) -> str:
    """A metric's value with one decimal: a WER of 0.465 is `46.5 %`, a BLEU of 46.5 is `46.5`."""
    return f"{metric.scale * value:.1f}{metric.unit}" if math.isfinite(value) else UNKNOWN


def amount_range(interval: Sequence[float], metric: Metric) -> str:
    """An interval of values: `44.0–49.1 %`."""
    low, high = (metric.scale * end for end in interval)
    return f"{low:.1f}–{high:.1f}{metric.unit}"


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


def short_names(names: Sequence[str]) -> list[str]:
    """The names without the parts that all of them begin with."""
    parts = [name.split(".") for name in names]
    same = 0
    while len(parts) > 1 and all(len(own) > same + 1 and own[same] == parts[0][same] for own in parts):
        same += 1
    return [".".join(own[same:]) for own in parts]
