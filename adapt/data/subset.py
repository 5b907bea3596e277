"""Pick a few evenly spaced items of a sequence."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly(items: Sequence[T], count: int) -> list[T]:
    """Return at most `count` items at equal distances, beginning with the first."""
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def evenly_with_ends(items: Sequence[T], count: int) -> list[T]:
    """Return at most `count` items (2 or more) at equal distances, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(number * (len(items) - 1) / (count - 1))] for number in range(count)]
