"""Replay: source examples among the target's in training, so that a model keeps what it knew (Robins 1995)."""

import random
from collections.abc import Sequence
from typing import Literal

from adapt.errors import InputError

Replay = float | Literal["all"]


def replayed(replay: Replay, target: int, source: int) -> int:
    """How many of `source` examples an epoch trains on, besides `target` examples of the target.

    `replay` is the share of an epoch that they make, 0 to below 1, rounded to whole examples; "all" is each of them
    once. Where the share needs more than there are, they come several times.

    Raises:
        InputError: `replay` is neither, or there is nothing to replay.
    """
    number = isinstance(replay, (int, float)) and not isinstance(replay, bool) and 0 <= replay < 1
    if replay != "all" and not number:
        raise InputError(
            f"replay is the share of training examples that are of the source, from 0 to below 1, or 'all': each of "
            f"data.source_train once an epoch. Got {replay!r}."
        )
    if replay != 0 and not source:
        raise InputError(f"replay={replay} needs examples of the source to train on: data.source_train=...")
    return source if replay == "all" else round(target * replay / (1 - replay))


def draw_replayed(levels: Sequence[float], count: int, seed: int, epoch: int) -> list[int]:
    """`count` numbers of examples, ascending, drawn anew each epoch; they follow from `seed` and `epoch` alone.

    `levels` are the examples' rounded lengths. How many are drawn of each level is the same in every epoch, and in
    proportion: the levels decide how many batches there are, and that must stay.
    """
    if not count:
        return []
    order = sorted(range(len(levels)), key=lambda number: levels[number])
    # Systematic sampling: equal steps through the examples in order of length, from a random start.
    start = random.Random(f"{seed}/replay").random()
    wanted: dict[float, int] = {}
    for step in range(count):
        level = levels[order[int((step + start) * len(order) / count)]]
        wanted[level] = wanted.get(level, 0) + 1
    draw = random.Random(f"{seed}/replay/{epoch}")
    drawn: list[int] = []
    for level, number in wanted.items():
        alike = [example for example in range(len(levels)) if levels[example] == level]
        drawn += alike * (number // len(alike)) + draw.sample(alike, number % len(alike))
    return sorted(drawn)
