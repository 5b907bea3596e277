"""What a correction may change is what its memory makes of it, at the cost said; the search finds little enough."""

import pytest
import torch
from correcting import Frames, inputs, protected, wanted
from torch import nn

from interventions.corrections.layer import layer_inputs
from interventions.corrections.ridge import RidgeSums
from interventions.corrections.search import EditSubspace, Search, find_change

STRENGTH = 5.0


@pytest.fixture(scope="module")
def net():
    return Frames().eval()


@pytest.fixture(scope="module")
def known(net):
    return protected(net)


def keys_of(net, known, number):
    with layer_inputs(net, known.layer) as found, torch.no_grad():
        net(inputs(number))
    return known.round_inputs(found[0][0])


def made(known, sums, given):
    """What the map gives at a correction's own keys."""
    weight, bias = sums.solve(STRENGTH)
    return known.layer.keys(given.float() * known.input_step) @ weight.T + bias


def taught(net, known, number):
    """Sums with so many corrections in them."""
    sums = RidgeSums(known)
    for other in range(number):
        given = keys_of(net, known, other)
        draw = torch.Generator().manual_seed(other)
        values = torch.randn(len(known.layer.keys(given.float())), known.layer.site.units, generator=draw)
        sums.add(given, known.round_values(values))
    return sums


@pytest.mark.parametrize("earlier", [0, 4])
def test_what_is_kept_moves_the_map_by_the_change(net, known, earlier):
    sums, given = taught(net, known, earlier), keys_of(net, known, 9)
    before = made(known, sums, given)
    subspace = sums.subspace(given, len(before), STRENGTH)
    z = torch.randn(subspace.change.shape[1], known.layer.site.units, generator=torch.Generator().manual_seed(1))
    sums.add(given, ((before + subspace.targets @ z) / known.value_step).round().to(torch.int16))
    # To what rounding to the grid leaves.
    assert (made(known, sums, given) - before - subspace.change @ z).norm() < 0.05 * (subspace.change @ z).norm()
    assert (subspace.targets @ z).norm() > (subspace.change @ z).norm()  # the regression follows but in part


@pytest.mark.parametrize("earlier", [0, 4])
def test_the_cost_is_what_the_regression_pays(net, known, earlier):
    sums, given = taught(net, known, earlier), keys_of(net, known, 9)
    grid = torch.cat([known.input_step.repeat_interleave(known.layer.kernel), torch.ones(1)]).double()
    second = known.second.double() * torch.outer(grid, grid)

    def paid(weight, bias, rows):
        whole = torch.cat([weight, bias[:, None]], 1).double()
        misses = sum(
            (known.layer.keys(own.float() * known.input_step).double() @ weight.double().T + bias - wants)
            .square()
            .sum()
            for own, wants in rows
        )
        return float(misses + STRENGTH * torch.trace(whole @ second @ whole.T))

    rows = []
    for other in range(earlier):
        own = keys_of(net, known, other)
        draw = torch.Generator().manual_seed(other)
        values = torch.randn(len(known.layer.keys(own.float())), known.layer.site.units, generator=draw)
        rows.append((own, known.round_values(values) * known.value_step))
    least = paid(*sums.solve(STRENGTH), rows)
    before = made(known, sums, given)
    subspace = sums.subspace(given, len(before), STRENGTH)
    costs = []
    for size in (1.0, 2.0):
        z = size * torch.randn(
            subspace.change.shape[1], known.layer.site.units, generator=torch.Generator().manual_seed(1)
        )
        kept = ((before + subspace.targets @ z) / known.value_step).round().to(torch.int16)
        sums.add(given, kept)
        more = paid(*sums.solve(STRENGTH), [*rows, (given, kept * known.value_step)]) - least
        sums.remove(given, kept)
        costs.append(more / float(z.square().sum()))
    # The same multiple of the square of z, whatever z is: the scale that coordinates have.
    assert costs[0] == pytest.approx(costs[1], rel=0.05)


def test_steps_change_by_themselves_as_far_as_said():
    subspace = EditSubspace(torch.ones(3, 1), 2 * torch.ones(3, 1)).with_residuals(0.5)
    z = torch.tensor([[1.0], [0.0], [4.0], [0.0]])
    torch.testing.assert_close(subspace.change @ z, torch.tensor([[1.0], [3.0], [1.0]]))
    torch.testing.assert_close(subspace.targets @ z, 2 * torch.ones(3, 1))
    assert (
        torch.equal(EditSubspace.unrestricted(2).change, torch.eye(2))
        and not EditSubspace.unrestricted(2).targets.any()
    )


def search(net, known, number, subspace, settings):
    x, labels = inputs(number), wanted(net, number)
    return find_change(
        net, known.layer.site, subspace, known.output_scale,
        lambda: nn.functional.cross_entropy(net(x)[0], labels),
        lambda: bool((net(x).argmax(-1)[0] == labels).all()), settings,
    )  # fmt: skip


def test_the_search_stops_at_what_is_right_with_a_margin_and_finds_the_smaller_of_changes(net, known):
    given = keys_of(net, known, 2)
    steps = len(known.layer.keys(given.float()))
    subspace = RidgeSums(known).subspace(given, steps, STRENGTH).with_residuals(1.0)
    slow, fast = (search(net, known, 2, subspace, Search(steps=400, rate=rate)) for rate in (0.01, 0.2))
    assert slow.correct and fast.correct and slow.loss <= 0.03 and slow.steps > fast.steps
    assert slow.values.norm() < fast.values.norm()
    wider = search(net, known, 2, subspace, Search(steps=400, rate=0.01, margin=0.3))
    assert wider.steps < slow.steps and wider.values.norm() < slow.values.norm()
    assert 0 < slow.touched.sum() <= steps


def test_where_nothing_is_found_it_says_so(net, known):
    given = keys_of(net, known, 2)
    subspace = RidgeSums(known).subspace(given, len(known.layer.keys(given.float())), STRENGTH)
    found = search(net, known, 2, subspace, Search(steps=2, rate=1e-5))
    assert not found.correct and found.steps == 2
