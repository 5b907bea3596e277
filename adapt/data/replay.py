"""Replay: mix source examples into training on the target, to reduce forgetting (Robins 1995)."""

import random
from collections.abc import Sequence
from typing import Literal

from adapt.checks import is_number
from adapt.errors import InputError

Replay = float | Literal["all"]


def check_replay(replay: Replay) -> None:
    """Raise InputError unless `replay` is a share or "all"."""
    if replay != "all" and not (is_number(replay) and 0 <= replay < 1):
        raise InputError(
            "replay must be the share of source examples in an epoch, from 0 to below 1, or 'all' (each example of "
            f"source_train once per epoch); got {replay!r}."
        )


def replay_count(replay: Replay, target: int, source: int) -> int:
    """Return how many source examples each epoch trains on.

    Args:
        replay: the share of source examples in an epoch, from 0 to below 1, or "all" for every source example once. If
            the share needs more source examples than there are, they are repeated.
        target: the number of target examples.
        source: the number of source examples.

    Raises:
        InputError: `replay` is neither a share nor "all", or source examples are needed but there are none.
    """
    check_replay(replay)
    if replay != 0 and not source:
        raise InputError(f"replay={replay} needs source examples to train on: give data.source_train=...")
    return source if replay == "all" else round(target * replay / (1 - replay))


def draw_replay(levels: Sequence[float], count: int, seed: int, epoch: int) -> list[int]:
    """Draw the source examples of an epoch, as ascending indices. They depend on `seed` and `epoch` only.

    Args:
        levels: the rounded lengths of the source examples. The number drawn from a level is in proportion to the
            level's size, and the same in every epoch. Batch sizes depend on the levels only, so every epoch has the
            same number of batches.
        count: the number of examples to draw. If there are fewer, they are repeated.
        seed: the seed of the run.
        epoch: the epoch, from 0.
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
        candidates = [example for example in range(len(levels)) if levels[example] == level]
        drawn += candidates * (number // len(candidates)) + draw.sample(candidates, number % len(candidates))
    return sorted(drawn)
