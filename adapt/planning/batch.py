"""Choose a batch of examples within a budget: each should add what the batch and the known data do not cover yet.

The value of a batch S is a sum over the units of its texts (`adapt.planning.units`),

    F(S) = sum_u w_u [ log(1 + k_u + sum_{i in S} s_i n_iu) - log(1 + k_u) ]

where n_iu counts unit u in example i, k_u counts it in the known data, w_u is the root of how often the candidates have
it, and s_i is the score of example i. Such a function is submodular: what is covered already adds little again, so a
batch is diverse. The greedy choice by gain per cost is close to the best batch (Wei et al. 2014, "Unsupervised
submodular subset selection for speech data"; Sviridenko 2004 on budgets).
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TOLERANCE = 1e-9  # of sums of durations


@dataclass(frozen=True)
class Pick:
    """A chosen example: its number, its gain in F when it was chosen, and the units that added most to the gain."""

    number: int
    gain: float
    units: tuple[str, ...]


def greedy_batch(
    counts: Sequence[Mapping[str, int]],
    costs: Sequence[float],
    budget: float,
    scores: Sequence[float] | None = None,
    known: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
) -> list[Pick]:
    """Choose examples by their gain per cost, one after another, until none fits the budget any more.

    Args:
        counts: The units of each candidate.
        costs: The cost of each candidate, above 0: minutes, or 1.
        budget: The largest sum of costs.
        scores: How much each candidate counts, 0 or more; None for 1.
        known: How often each unit occurs in the known data.
        weights: The weight of each unit; None for `root_weights`.

    Returns:
        The chosen examples, the first chosen first.
    """
    known = known or {}
    scores = [1.0] * len(counts) if scores is None else scores
    weights = root_weights(counts) if weights is None else weights
    covered = {unit: 1.0 + known.get(unit, 0) for unit in weights}

    def gains(number: int) -> dict[str, float]:
        return {
            unit: weights[unit] * math.log1p(scores[number] * count / covered[unit])
            for unit, count in counts[number].items()
            if unit in weights
        }

    # A gain never grows, so a candidate whose renewed gain is still the highest is the best one (lazy greedy).
    heap = [(-sum(gains(number).values()) / costs[number], number) for number in range(len(counts))]
    heapq.heapify(heap)
    picks: list[Pick] = []
    while heap:
        _, number = heapq.heappop(heap)
        if costs[number] > budget + _TOLERANCE:
            continue  # the budget only shrinks
        own = gains(number)
        gain = sum(own.values())
        if heap and gain / costs[number] < -heap[0][0] - _TOLERANCE:
            heapq.heappush(heap, (-gain / costs[number], number))
            continue
        budget -= costs[number]
        for unit in own:
            covered[unit] += scores[number] * counts[number][unit]
        picks.append(Pick(number, gain, tuple(sorted(own, key=lambda unit: (-own[unit], unit))[:3])))
    return picks


def random_batch(costs: Sequence[float], budget: float, seed: int) -> list[int]:
    """Return numbers of candidates in random order, as many as the budget allows."""
    order = list(range(len(costs)))
    random.Random(f"batch/{seed}").shuffle(order)
    taken = []
    for number in order:
        if costs[number] <= budget + _TOLERANCE:
            budget -= costs[number]
            taken.append(number)
    return taken


def pool_weights(counts: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return how often the candidates have each unit, as a share of all their units."""
    total: Counter[str] = Counter()
    for own in counts:
        total.update(own)
    whole = sum(total.values())
    return {unit: count / whole for unit, count in total.items()}


def root_weights(counts: Sequence[Mapping[str, int]], share: float = 1.0) -> dict[str, float]:
    """Return the root of how often the candidates have each unit, with a sum of `share`.

    With how often itself, many copies of a common text would come before a single rare one.
    """
    roots = {unit: math.sqrt(weight) for unit, weight in pool_weights(counts).items()}
    whole = sum(roots.values())
    return {unit: share * root / whole for unit, root in roots.items()}


def coverage(
    chosen: Sequence[Mapping[str, int]], weights: Mapping[str, float], known: Mapping[str, float] | None = None
) -> float:
    """Return the share of the candidates' units (by `pool_weights`) that the chosen or the known examples have."""
    there = {unit for own in chosen for unit in own} | {unit for unit, count in (known or {}).items() if count}
    return sum(weight for unit, weight in weights.items() if unit in there)
