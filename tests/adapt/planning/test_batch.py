"""A batch is diverse, representative and within its budget; the greedy choice is near the best batch."""

import itertools
import math
import random
from collections import Counter

import pytest

from adapt.planning.batch import coverage, greedy_batch, pool_weights, random_batch, root_weights
from adapt.planning.units import units_of


def value(batch, counts, scores, weights, known=None):
    """F of a batch, as the module's docstring defines it."""
    total = 0.0
    for unit, weight in weights.items():
        before = 1 + (known or {}).get(unit, 0)
        total += weight * math.log((before + sum(scores[n] * counts[n][unit] for n in batch)) / before)
    return total


def pool(seed, count=9):
    draw = random.Random(seed)
    texts = [" ".join(draw.choices("abcdefgh", k=draw.randint(1, 6))) for _ in range(count)]
    return units_of(texts, "words"), [draw.uniform(0.5, 2) for _ in texts], [draw.uniform(0.1, 1) for _ in texts]


@pytest.mark.parametrize("seed", range(10))
def test_is_near_the_best_batch(seed):
    counts, costs, scores = pool(seed)
    weights = root_weights(counts)
    chosen = [pick.number for pick in greedy_batch(counts, costs, 4, scores)]
    within = [
        batch
        for size in range(len(counts) + 1)
        for batch in itertools.combinations(range(len(counts)), size)
        if sum(costs[n] for n in batch) <= 4
    ]
    best = max(value(batch, counts, scores, weights) for batch in within)
    assert sum(costs[n] for n in chosen) <= 4
    assert value(chosen, counts, scores, weights) >= 0.8 * best


@pytest.mark.parametrize("seed", range(5))
def test_lazy_choice_equals_the_plain_one(seed):
    counts, costs, scores = pool(seed, 30)
    weights, left, plain = root_weights(counts), 12.0, []
    while True:
        fitting = [n for n in range(30) if n not in plain and costs[n] <= left]
        if not fitting:
            break
        now = value(plain, counts, scores, weights)
        best = max(fitting, key=lambda n: (value([*plain, n], counts, scores, weights) - now) / costs[n])
        plain.append(best)
        left -= costs[best]
    picks = greedy_batch(counts, costs, 12, scores)
    assert [pick.number for pick in picks] == plain
    assert sum(pick.gain for pick in picks) == pytest.approx(value(plain, counts, scores, weights))


def test_does_not_choose_copies_of_a_text_before_another():
    counts = units_of(["the red bus", "the red bus", "the red bus", "a cold day"], "words")
    picks = greedy_batch(counts, [1] * 4, 4)
    assert 3 in {pick.number for pick in picks[:3]}
    assert root_weights(counts)["bus"] == pytest.approx(math.sqrt(3) * root_weights(counts)["day"])
    assert sum(root_weights(counts, 0.2).values()) == pytest.approx(0.2)


def test_what_is_known_need_not_be_covered():
    counts = units_of(["the red bus", "a cold day"], "words")
    assert greedy_batch(counts, [1, 1], 1, known={"a": 9, "cold": 9, "day": 9})[0].number == 0
    assert greedy_batch(counts, [1, 1], 1, known={"the": 9, "red": 9, "bus": 9})[0].number == 1


def test_scores_and_costs_count():
    counts = units_of(["one two", "six ten"], "words")
    assert greedy_batch(counts, [1, 1], 1, [0.2, 0.9])[0].number == 1
    assert greedy_batch(counts, [2, 1], 2)[0].number == 1
    assert greedy_batch(counts, [5, 6], 4) == []


def test_random_batches_keep_to_the_budget_and_follow_the_seed():
    costs = [0.5, 1, 1.5] * 10
    batch = random_batch(costs, 5, 1)
    assert batch == random_batch(costs, 5, 1) != random_batch(costs, 5, 2)
    assert len(set(batch)) == len(batch) and 4.5 <= sum(costs[n] for n in batch) <= 5
    assert sorted(random_batch(costs, 1000, 0)) == list(range(30))


def test_coverage_is_the_share_of_all_units():
    counts = units_of(["a b", "a c"], "words")
    weights = pool_weights(counts)
    assert weights == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert coverage([], weights) == 0 and coverage(counts, weights) == 1
    assert coverage([counts[0]], weights) == 0.75 == coverage([], weights, {"a": 1, "b": 2})


def test_units_of_texts():
    assert units_of(["The bus, the BUS!"], "words") == [Counter({"the": 2, "bus": 2})]
    assert units_of(["at", "a", ""], "letters") == [Counter([" at", "at "]), Counter([" a "]), Counter()]


def test_phonemes_are_what_is_said_not_what_is_written():
    pytest.importorskip("espeakng_loader")
    one, other, third = units_of(["night", "knight", "day"], "phonemes")
    assert one == other != third and one
