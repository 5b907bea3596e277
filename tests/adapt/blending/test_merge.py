"""Merging several models: the formulas on small tensors, where the right numbers are known."""

import pytest
import torch

from adapt.blending import merge


def state(*values, extra=0.5, count=3):
    return {"w": torch.tensor(values), "norm.running_var": torch.tensor([extra]), "n": torch.tensor(count)}


BASE = state(1.0, 1.0, 1.0, 1.0)
ONE = state(1.0, 3.0, 2.0, 1.25, extra=1.5, count=5)
OTHER = state(1.0, -3.0, 3.0, 1.0, extra=2.5, count=7)


def test_soup_is_the_weighted_mean():
    assert merge.soup(BASE, [ONE, OTHER], [1, 1])["w"].tolist() == [1.0, 0.0, 2.5, 1.125]
    assert merge.soup(BASE, [ONE, OTHER], [3, 1])["w"].tolist() == [1.0, 1.5, 2.25, 1.1875]
    one = merge.soup(BASE, [ONE], [0.3])
    assert all(torch.equal(one[name], ONE[name]) for name in ONE)


def test_arithmetic_is_the_sum_of_the_changes_but_statistics_are_averaged():
    merged = merge.task_arithmetic(BASE, [ONE, OTHER], [1, 1])
    assert merged["w"].tolist() == [1.0, -1.0, 4.0, 1.25]
    assert merged["norm.running_var"].tolist() == [2.0]
    assert merged["n"] == 5
    assert merge.task_arithmetic(BASE, [ONE, OTHER], [1, 0.5])["w"].tolist() == [1.0, 1.0, 3.0, 1.25]


def test_ties_elects_a_sign_and_averages_what_agrees():
    merged = merge.ties(BASE, [ONE, OTHER], [1, 1], density=0.5)["w"]
    # Kept are the two largest changes of each: +2 and +1, and -4 and +2. At the second weight, -4 wins against +2.
    assert merged.tolist() == [1.0, -3.0, 2.5, 1.0]
    whole = merge.ties(BASE, [ONE, OTHER], [1, 1], density=1.0)["w"]
    assert whole.tolist() == [1.0, -3.0, 2.5, 1.25]
    assert merge.ties(BASE, [ONE, OTHER], [3, 1], density=1.0)["w"].tolist() == [1.0, 3.0, 2.25, 1.25]


def test_dare_drops_changes_rescales_the_others_and_is_reproducible():
    base, model = {"w": torch.zeros(20_000)}, {"w": torch.ones(20_000)}
    merged = merge.dare(base, [model], [1.0], density=0.25, seed=1)["w"]
    assert set(merged.tolist()) == {0.0, 4.0}
    assert float(merged.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(merged, merge.dare(base, [model], [1.0], density=0.25, seed=1)["w"])
    assert not torch.equal(merged, merge.dare(base, [model], [1.0], density=0.25, seed=2)["w"])
    assert torch.equal(merge.dare(base, [model], [1.0], density=1.0)["w"], model["w"])


def test_fisher_weighs_by_information():
    ones = {"w": torch.ones(4)}
    first = {"w": torch.tensor([1.0, 3.0, 0.0, 0.0])}
    second = {"w": torch.tensor([1.0, 1.0, 2.0, 0.0])}
    merged = merge.fisher(BASE, [ONE, OTHER], [1, 1], [first, second])["w"]
    assert merged.tolist() == [1.0, (3 * 3.0 - 3.0) / 4, 3.0, 1.125]  # the last: no information, so the mean
    assert merge.fisher(BASE, [ONE, OTHER], [1, 1], [ones, ones])["w"].tolist() == [1.0, 0.0, 2.5, 1.125]
    source = {"w": torch.tensor([1.0, 3.0, 0.0, 0.0])}  # the source depends on the second weight, not on the third
    anchored = merge.fisher(BASE, [ONE], [1.0], [ones], source)["w"]
    assert anchored.tolist() == pytest.approx([1.0, 1 + 2 / 4, 2.0, 1.25])
    near_base = merge.fisher(BASE, [ONE], [1.0], [ones], source, strength=9.0)["w"]
    assert float(near_base[1]) == pytest.approx(1 + 2 / 28)


def test_unchanged_weights_keep_their_bits():
    base = {"w": torch.tensor([-0.0, 0.1, 1e-30])}
    changed = {"w": torch.tensor([-0.0, 0.3, 1e-30])}
    for made in (merge.soup(base, [changed, changed], [1, 1]), merge.task_arithmetic(base, [changed], [0.5]),
                 merge.ties(base, [changed], [1.0]), merge.dare(base, [changed], [1.0], 0.9)):  # fmt: skip
        assert torch.signbit(made["w"][0])
        assert made["w"][2] == base["w"][2]
    same = merge.soup(base, [dict(base)], [1.0])
    assert same["w"] is base["w"]
