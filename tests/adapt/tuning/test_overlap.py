"""Overlap and rank correlation equal values computed by hand."""

import pytest
import torch

from adapt.tuning.overlap import chance_overlap, overlap, rank_correlation
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

A, B = Site("a", -1, 4, ("a.weight",)), Site("b", 1, 6, ("b.weight",))


def test_overlap():
    one, other = Neurons({A: [0, 1], B: [2]}), Neurons({A: [1, 3], B: [2, 5]})
    assert overlap(one, other) == overlap(other, one) == 2 / 5
    assert overlap(one, one) == overlap(Neurons({A: []}), Neurons({})) == 1 and overlap(one, ~one) == 0


def test_chance_is_what_random_sets_share():
    one, other = Neurons({A: [0, 1], B: [2, 3, 4]}), Neurons({A: [1, 3], B: [0, 5, 1]})
    drawn = [len(one.random(seed) & other.random(seed + 5000)) for seed in range(3000)]
    both = sum(drawn) / len(drawn)
    assert chance_overlap(one, other) == pytest.approx(both / (len(one) + len(other) - both), abs=0.02)


def test_rank_correlation():
    one = Scores({A: torch.tensor([1.0, 2, 3, 4]), B: torch.tensor([5.0, 6, 7, 8, 9, 10])})
    assert rank_correlation(one, one) == pytest.approx(1) and rank_correlation(one, -one) == pytest.approx(-1)
    squares = Scores({site: one[site] ** 3 for site in one.sites})
    assert rank_correlation(one, squares) == pytest.approx(1)
    assert rank_correlation(one, Scores({A: torch.ones(4)})) == 0
    # 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    assert rank_correlation(Scores({A: torch.tensor([0.0, 1, 1, 9])}), one) == pytest.approx(4.5 / 22.5**0.5)
    with pytest.raises(ValueError, match="no site in common"):
        rank_correlation(Scores({A: torch.ones(4)}), Scores({B: torch.ones(6)}))
