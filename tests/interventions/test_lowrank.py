"""A low-rank edit starts as the identity, is LoReFT's formula, and trains in an ordinary loop; the model does not."""

import copy

import pytest
import torch
from torch import nn

from interventions.bits import changed_bits
from interventions.intervene import intervene
from interventions.lowrank import LowRank
from interventions.scope import StepContext
from interventions.sites import Site, find_sites


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.out = nn.Conv1d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x):
        return self.out(self.conv(x).relu().transpose(1, 2))


def site(units=8):
    return Site("layer", -1, units, ())


def applied(edit, x):
    return edit.at(edit.site)(x, StepContext())


def random_edit(rank=3, units=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = ((rank, units), (rank, units), (rank,))
    return LowRank(site(units), *(torch.randn(*shape, generator=draw) for shape in shapes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_edit_is_the_identity_bit_for_bit(dtype):
    edit, x = LowRank.new(site(), 3), torch.randn(2, 5, 8).to(dtype)
    assert not changed_bits(applied(edit, x), x).any()
    assert len(edit.parameters()) == 3


def test_it_is_the_formula_of_the_paper():
    """h + R' (W h + b - R h), with W = R + change."""
    edit, x = random_edit(), torch.randn(2, 5, 8)
    r = edit.rotation()
    w = r + edit.change
    expected = torch.stack([h + r.T @ (w @ h + edit.bias - r @ h) for h in x.reshape(-1, 8)]).reshape(x.shape)
    torch.testing.assert_close(applied(edit, x), expected)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rotation_is_orthonormal_and_spans_the_basis_row_by_row(rank):
    edit = random_edit(rank)
    r = edit.rotation()
    torch.testing.assert_close(r @ r.T, torch.eye(rank))
    torch.testing.assert_close(edit.basis @ r.T @ r, edit.basis)
    # Each row leans to its own row of the basis: no sign flips while a basis turns through a full circle.
    assert ((edit.basis * r).sum(1) > 0).all()


def test_rotation_never_jumps_as_the_basis_moves():
    angles = torch.linspace(0, 2 * torch.pi, 400)
    turned = [LowRank(site(2), torch.tensor([[a.cos(), a.sin()]]), torch.zeros(1, 2), torch.zeros(1)) for a in angles]
    rows = torch.cat([edit.rotation() for edit in turned])
    torch.testing.assert_close(rows, torch.stack([angles.cos(), angles.sin()], 1), atol=1e-6, rtol=0)


def test_nothing_outside_of_the_directions_changes():
    edit, x = random_edit(), torch.randn(7, 8)
    r = edit.rotation()
    moved = applied(edit, x) - x
    torch.testing.assert_close(moved @ r.T @ r, moved)
    assert moved.norm() > 1


def target():
    """What a net does under an edit of its convolution: another edit can learn it, as it is of the same form."""
    (place,) = find_sites(Net(), "conv")
    wanted = random_edit(2)
    wanted = LowRank(place, wanted.basis, wanted.change * 0.5, wanted.bias)
    net, x = Net(), torch.randn(16, 3, 10, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), intervene(net, wanted):
        return place, x, net(x)


@pytest.mark.parametrize("autocast", [False, True])
def test_it_learns_in_an_ordinary_loop_and_the_model_stays_bit_for_bit(autocast):
    place, x, y = target()
    net = Net()
    before = copy.deepcopy(net.state_dict())
    edit = LowRank.new(place, 2)
    optimizer = torch.optim.Adam(edit.parameters(), 0.03)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast), intervene(net, edit):
            loss = (net(x).float() - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    assert all(part.dtype == torch.float32 and part.grad.isfinite().all() for part in edit.parameters())
    assert not any(changed_bits(before[name], tensor).any() for name, tensor in net.state_dict().items())


def test_gradients_flow_to_all_of_it_and_to_the_base_only_where_asked():
    place, x, y = target()
    for trained in (True, False):
        net = Net().requires_grad_(trained)
        parts = random_edit(2)
        edit = LowRank(place, *(part.clone().requires_grad_() for part in (parts.basis, parts.change, parts.bias)))
        with intervene(net, edit):
            (net(x) - y).square().mean().backward()
        assert all(part.grad.abs().max() > 0 for part in edit.parameters())
        assert all((parameter.grad is not None) == trained for parameter in net.parameters())


def test_gradients_are_right():
    x = torch.randn(4, 6, dtype=torch.float64)
    parts = random_edit(2, 6)
    parts = [part.double().requires_grad_() for part in (parts.basis, parts.change, parts.bias)]
    assert torch.autograd.gradcheck(lambda *given: applied(LowRank(site(6), *given), x), parts)


def test_what_is_kept_of_training_is_the_same_edit_and_trains_no_more():
    parts = random_edit(2)
    edit = LowRank(site(), *(part.requires_grad_() for part in (parts.basis, parts.change, parts.bias)), strength=0.5)
    kept, x = edit.detached(), torch.randn(3, 8)
    assert torch.equal(applied(kept, x), applied(edit, x)) and kept.strength == 0.5
    assert not kept.parameters() and len(edit.parameters()) == 3
    with torch.no_grad():
        edit.bias.add_(1)
    assert not torch.equal(applied(kept, x), applied(edit, x))


def test_in_half_precision_it_keeps_the_type_and_computes_the_same_but_for_rounding():
    edit, x = random_edit(), torch.randn(2, 5, 8)
    found = applied(edit, x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), applied(edit, x), atol=0.2, rtol=0.05)


@pytest.mark.parametrize(
    ("shapes", "rank"),
    [
        (((3, 7), (3, 8), (3,)), 3),
        (((3, 8), (2, 8), (3,)), 3),
        (((3, 8), (3, 8), (2,)), 3),
        (((9, 8), (9, 8), (9,)), 9),
    ],
)
def test_tensors_that_do_not_fit_are_refused(shapes, rank):
    with pytest.raises(ValueError, match="'layer' has 8 units.*rank from 1 to 8"):
        LowRank(site(), *(torch.zeros(*shape) for shape in shapes))
