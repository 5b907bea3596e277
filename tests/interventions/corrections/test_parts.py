"""The ridge map is the closed form, on sums that are exact; a codebook's entries hold, and reach as far as said."""

from dataclasses import replace

import pytest
import torch
from correcting import Frames, inputs, protected
from hypothesis import given
from hypothesis import strategies as st

from interventions.corrections.codebook import Codebook
from interventions.corrections.gate import BackgroundStatistics, Gate
from interventions.corrections.layer import power_of_two
from interventions.corrections.ridge import RidgeSums


@pytest.fixture(scope="module")
def net():
    return Frames().eval()


@pytest.fixture(scope="module")
def known(net):
    return protected(net)


def entry(known, seed, time=30):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randint(-127, 128, (time, known.layer.inputs), generator=draw, dtype=torch.int8)
    values = torch.randint(-32767, 32768, (time, known.layer.site.units), generator=draw, dtype=torch.int16)
    return inputs, values


@given(st.permutations(range(8)), st.integers(1, 7))
def test_sums_are_exact_in_any_order(known, order, removed):
    sums, straight = RidgeSums(known), RidgeSums(known)
    for number in range(removed, 8):
        straight.add(*entry(known, number))
    for number in order:
        sums.add(*entry(known, number))
    for number in range(removed):
        sums.remove(*entry(known, number))
    assert torch.equal(sums.keys, straight.keys) and torch.equal(sums.values, straight.values)


def test_sums_of_many_steps_at_the_ends_of_their_grids_are_exact(known):
    inputs = torch.full((5000, known.layer.inputs), 127, dtype=torch.int8)
    values = torch.full((5000, known.layer.site.units), 32767, dtype=torch.int16)
    sums = RidgeSums(known)
    sums.add(inputs, values)
    middle = known.layer.kernel // 2  # of the first input
    assert int(sums.keys[middle, middle]) == 5000 * 127**2 and int(sums.values[0, middle]) == 5000 * 127 * 32767


def test_the_map_is_the_minimum_of_the_ridge_regression(known):
    sums, strength = RidgeSums(known), 7.0
    pairs = [entry(known, seed, 50) for seed in range(3)]
    for pair in pairs:
        sums.add(*pair)
    weight, bias = sums.solve(strength)
    found = torch.cat([weight, bias[:, None]], 1).double().requires_grad_()
    step = known.key_step.double()
    keys = torch.cat([torch.cat([known.layer.keys(i.double()), torch.ones(len(i), 1)], 1) for i, _ in pairs]) * step
    wanted = torch.cat([values for _, values in pairs]).double() * known.value_step
    second = known.second.double() * torch.outer(step, step)
    cost = (keys @ found.T - wanted).square().sum() + strength * torch.trace(found @ second @ found.T)
    (slope,) = torch.autograd.grad(cost, found)
    # Flat there, beside what it is at no map at all; what is left is the jitter's.
    start = (2 * wanted.T @ keys).norm()
    assert slope.norm() < 1e-2 * start


def test_without_corrections_the_map_is_zero(known):
    weight, bias = RidgeSums(known).solve(1.0)
    assert not weight.any() and not bias.any()


def test_an_entry_gives_its_value_at_its_key_and_fades_over_its_radius():
    torch.manual_seed(0)
    keys, values, radii = 10 * torch.randn(50, 8), torch.randn(50, 3), 0.5 + torch.rand(50)
    codebook = Codebook(keys, radii, values)
    torch.testing.assert_close(codebook(keys), values, rtol=1e-3, atol=1e-3)
    direction = torch.nn.functional.normalize(torch.randn(50, 8), dim=1)
    for distance, left in ((0.1, 0.9999), (0.5, 0.9394), (1.0, 0.3679), (2.0, 0.0)):
        away = keys + distance * radii[:, None] * direction
        torch.testing.assert_close(codebook(away), left * values, rtol=1e-2, atol=1e-3)


@given(st.integers(0, 10_000), st.integers(1, 90), st.integers(1, 40), st.sampled_from([1, 7, 64, 1 << 18]))
def test_the_nearest_entry_is_that_of_all_there_are(seed, number, queries, elements):
    draw = torch.Generator().manual_seed(seed)
    keys, asked = torch.randn(number, 6, generator=draw), torch.randn(queries, 6, generator=draw)
    radii = 0.2 + torch.rand(number, generator=draw)
    asked[0] = keys[-1]
    codebook = Codebook(keys, radii, torch.eye(number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interventions.corrections.codebook._ELEMENTS", {"cpu": elements})
        patch.setattr("interventions.corrections.codebook._QUERIES", 16)
        found = codebook.nearest(asked)
        added = codebook(asked)
    away = torch.cdist(asked.double(), keys.double()) / radii.double()
    torch.testing.assert_close(away.gather(1, found[:, None])[:, 0], away.amin(1), rtol=1e-5, atol=1e-5)
    assert added[0, number - 1] == 1 and found[0] == number - 1  # at its key, an entry's value, bit for bit


def test_a_codebook_passes_gradients_on():
    torch.manual_seed(0)
    keys = torch.randn(9, 4, dtype=torch.float64)
    codebook = Codebook(keys, 1 + torch.rand(9, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64))
    with torch.inference_mode():
        codebook(keys)  # what is kept of a first use in inference does for training
    assert torch.autograd.gradcheck(codebook, (keys[:2] + 0.3).requires_grad_())


def test_grids_are_powers_of_two_and_reach_what_they_should(known):
    steps = torch.cat([known.input_step, known.value_step.reshape(1)])
    assert torch.equal(steps, torch.exp2(steps.log2().round()))
    assert torch.equal(power_of_two(torch.tensor([0.0, 1.0, 1.1, 0.3])), torch.tensor([1.0, 1.0, 2.0, 0.5]))
    values = torch.randn(7, known.layer.site.units)
    back = known.round_values(values) * known.value_step
    assert (back - values).abs().max() <= known.value_step / 2


def test_few_protected_keys_and_inputs_that_were_always_zero_leave_a_solution(net):
    few = protected(net, number=1)
    dead = few.second.clone()
    dead[:20], dead[:, :20] = 0, 0
    draw = torch.Generator().manual_seed(0)
    read = torch.randint(-127, 128, (30, 12), generator=draw).to(torch.int8)
    wanted = torch.randint(-9, 10, (30, 16), generator=draw).to(torch.int16)
    for second in (few.second, dead, few.second - 1e-6 * few.second.abs().max() * torch.eye(61)):
        for strength in (30.0, 3e6):
            sums = RidgeSums(replace(few, second=second))
            assert sums.subspace(read, 30, strength).change.isfinite().all()
            sums.add(read, wanted)
            weight, bias = sums.solve(strength)
            assert weight.isfinite().all() and bias.isfinite().all()
    with pytest.raises(ValueError, match="are not finite"):
        RidgeSums(replace(few, second=few.second * torch.nan)).subspace(read, 30, 30.0)


def test_protected_as_one_example_or_as_the_same_again_there_is_no_gate_or_a_finite_one(net):
    assert protected(net, number=1).background is None
    same = BackgroundStatistics.fit([inputs(500)[0].T] * 3)
    other = inputs(1)[0].T
    gate = Gate.fit(same, [same.row(other)])
    assert gate(torch.stack([inputs(500)[0].T, other])).isfinite().all()
