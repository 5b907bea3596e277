"""Group divergence: chance is calibrated, planted neurons are found, and differences in content do not count."""

import itertools

import pytest
import torch

from adapt.introspect.bias.comparisons import q_values
from adapt.introspect.bias.divergence import group_divergence, sign_flip_tail
from adapt.introspect.bias.sums import ContentSums
from interventions.sites import Site

FOLDS = 24


def site(units):
    return Site("conv", 1, units, ())


def gather(x, contents, groups, folds, count=3):
    """Sum activations `(examples, time, units)` by the content of each step `(examples, time)`."""
    own = site(x.shape[-1])
    sums = ContentSums([own], max(groups) + 1, FOLDS, ["all", *(f"letter:{n}" for n in range(count))])
    members = torch.nn.functional.one_hot(contents, count).mT.float()
    members = torch.cat([torch.ones_like(members[:, :1]), members], 1)
    cells = torch.tensor(groups) * FOLDS + torch.tensor(folds)
    sums.update(own, cells, members, torch.arange(count + 1).expand(len(x), -1), x)
    return sums


def spoken(seed, units=400, examples=96, time=20, own=0.3):
    """Examples of two groups, half of each; every example has an offset in each neuron, as speakers do."""
    draw = torch.Generator().manual_seed(seed)
    contents = torch.randint(3, (examples, time), generator=draw)
    means = torch.randn(3, units, generator=draw)
    x = means[contents] + torch.randn(examples, time, units, generator=draw)
    x += own * torch.randn(examples, 1, units, generator=draw)
    groups = [number % 2 for number in range(examples)]
    return x, contents, groups, [number // 2 % FOLDS for number in range(examples)]


def flagged(sums, level=0.01):
    found = group_divergence(sums, sums.sites[0], [0], [1])
    (q,) = q_values([found.p])
    return set((q <= level).nonzero().flatten().tolist()), found


def test_chance_is_that_of_all_signs():
    """Compared with all 2^10 signs, the moments are equal and the tail is close."""
    parts = torch.randn(200, 10, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts[:, :, 1:] *= 0.3
    products = parts @ parts.mT
    products.diagonal(dim1=1, dim2=2).zero_()
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=10)), dtype=torch.float64)
    all_signs = torch.einsum("sa,uab,sb->us", signs, products, signs)
    exact = (all_signs >= products.sum((1, 2)).unsqueeze(1) - 1e-9).double().mean(1)
    tail = exact < 0.1
    assert tail.sum() > 10 and (sign_flip_tail(products) - exact)[tail].abs().max() < 0.04
    assert torch.allclose(all_signs.pow(3).mean(1), 8 * ((products @ products) * products).sum((1, 2)))


@pytest.mark.parametrize("folds", [20, 32])
@pytest.mark.parametrize("shared", [0.0, 0.8])  # the share of variance that all contents of an example have in common
def test_without_a_difference_p_is_uniform(folds, shared):
    draw = torch.Generator().manual_seed(folds)
    parts = (1 - shared) ** 0.5 * torch.randn(10_000, folds, 5, generator=draw, dtype=torch.float64)
    parts += shared**0.5 * torch.randn(10_000, folds, 1, generator=draw, dtype=torch.float64)
    parts *= 0.3 + torch.rand(1, folds, 1, generator=draw, dtype=torch.float64)  # folds of different sizes
    products = parts @ parts.mT
    products.diagonal(dim1=1, dim2=2).zero_()
    p = sign_flip_tail(products)
    for level in (0.2, 0.05, 0.01):
        assert float((p <= level).double().mean()) == pytest.approx(level, rel=0.35)
    assert float((p <= 0.001).double().mean()) < 0.0018


def test_diverging_neurons_are_found_and_no_others():
    for seed in range(2):
        x, contents, groups, folds = spoken(seed)
        x[::2, :, 7] += 1.0  # more active in the first group
        sign = torch.tensor([1.0, -1.0, 0.0])[contents[::2]]
        x[::2, :, 11] += 1.2 * sign  # the same mean, higher for one letter and lower for another
        found, divergence = flagged(gather(x, contents, groups, folds))
        assert found >= {7, 11} and len(found) <= 3
        low, high = divergence.interval(7)
        truth = 1.0 / float(divergence.spread[7])
        assert low < truth < high and low > 0.5 * truth
        assert divergence.shift_interval(7)[0] < truth < divergence.shift_interval(7)[1]
        assert abs(float(divergence.shift[11])) < 0.4 and float(divergence.distance[11]) > 0.5
        assert divergence.difference[:2, 11].sign().tolist() == [1, -1]


def test_random_groups_do_not_diverge():
    """At 1 %, hardly any of 40 random splits has a diverging neuron among 400 correlated ones."""
    wrong = 0
    for seed in range(40):
        x, contents, groups, folds = spoken(seed, time=6)
        x += torch.randn(len(x), 1, 1, generator=torch.Generator().manual_seed(seed))  # in all neurons of an example
        wrong += bool(flagged(gather(x, contents, groups, folds))[0])
    assert wrong <= 2


def test_groups_of_unequal_size_and_variance_do_not_diverge():
    """A group of 24 with a high variance and one of 240 with a low variance have the same means."""
    wrong = 0
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        groups = [0] * 24 + [1] * 240
        folds = [n % FOLDS for n in range(24)] + [n % FOLDS for n in range(240)]
        contents = torch.randint(3, (264, 6), generator=draw)
        own = torch.tensor([1.5 if group == 0 else 0.2 for group in groups]).view(-1, 1, 1)
        x = torch.randn(264, 6, 200, generator=draw) + own * torch.randn(264, 1, 200, generator=draw)
        wrong += bool(flagged(gather(x, contents, groups, folds))[0])
    assert wrong <= 2


def test_a_difference_in_content_is_no_divergence():
    """One group says a letter more often, to which all neurons respond: only means over all steps differ."""
    x, _, groups, folds = spoken(3)
    draw = torch.Generator().manual_seed(1)
    often = torch.where(torch.tensor(groups).bool(), 0.2, 0.7).view(-1, 1).expand(-1, 20)
    contents = torch.where(torch.rand(len(x), 20, generator=draw) < often, 0, 1 + torch.randint(2, (len(x), 20)))
    x = torch.randn(x.shape, generator=draw) + 2.0 * (contents == 0).unsqueeze(-1)
    sums = gather(x, contents, groups, folds)
    assert not flagged(sums)[0]
    assert sums.contents_at(sums.sites[0]) == [1, 2, 3]
    raw = ContentSums(sums.sites, 2, FOLDS, ["all"])
    raw.sums["conv"] = {
        "steps": sums.sums["conv"]["steps"][:, :, :1], "activation": sums.sums["conv"]["activation"][:, :, :1],
        "square": sums.sums["conv"]["square"][:1],
    }  # fmt: skip
    assert len(flagged(raw)[0]) > 390


def test_it_does_not_depend_on_scale_and_dead_neurons_never_diverge():
    x, contents, groups, folds = spoken(4, units=30)
    x[..., 3] = 0.25
    x[::2, :, 5] += 1
    one = group_divergence(gather(x, contents, groups, folds), site(30), [0], [1])
    other = group_divergence(gather(100 * x + 7, contents, groups, folds), site(30), [0], [1])
    assert torch.allclose(one.distance, other.distance, atol=1e-3) and torch.allclose(one.p, other.p, atol=1e-3)
    assert one.p[3] == 1 and one.distance[3] == 0
    back = group_divergence(gather(x, contents, groups, folds), site(30), [1], [0])
    assert torch.allclose(back.difference, -one.difference) and torch.allclose(back.p, one.p)


def test_contents_that_one_group_does_not_have_are_left_out():
    x, contents, groups, folds = spoken(5, units=4)
    contents[1::2][contents[1::2] == 2] = 1
    found = group_divergence(gather(x, contents, groups, folds), site(4), [0], [1])
    assert found.contents == ("letter:0", "letter:1") and float(found.weights.sum()) == pytest.approx(1)
    assert found.coverage == pytest.approx(float((contents[::2] != 2).double().mean()))
    assert group_divergence(gather(x, contents, groups, folds), site(4), [0], [1], min_steps=10**6) is None


def test_halves_add_up():
    x, contents, groups, folds = spoken(6, units=5)
    whole, parts = gather(x, contents, groups, folds), gather(x[:50], contents[:50], groups[:50], folds[:50])
    members = torch.nn.functional.one_hot(contents[50:], 3).mT.float()
    members = torch.cat([torch.ones_like(members[:, :1]), members], 1)
    cells = torch.tensor(groups[50:]) * FOLDS + torch.tensor(folds[50:])
    parts.update(site(5), cells, members, torch.arange(4).expand(46, -1), x[50:])
    for name, total in whole.sums["conv"].items():
        assert torch.allclose(total, parts.sums["conv"][name], atol=1e-3)
