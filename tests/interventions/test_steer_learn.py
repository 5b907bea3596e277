"""A vector learned by gradient does what the loss asks, and leaves the model exactly as it was, also after an error."""

import pytest
import torch
from torch import nn

from interventions.bits import changed_bits
from interventions.intervene import NeverRanError, intervene
from interventions.scope import Scope
from interventions.sites import Site, site_at
from interventions.steer_learn import learn_vector


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.drop, self.out, self.unused = (
            nn.Conv1d(3, 8, 3, padding=1), nn.Dropout(0.5), nn.Linear(8, 4), nn.Linear(2, 2),
        )  # fmt: skip

    def forward(self, x):
        return self.out(self.drop(self.conv(x).relu()).transpose(1, 2))


X = torch.randn(4, 3, 9, generator=torch.Generator().manual_seed(1))


def towards(unit):
    """A loss that is small where the net answers with a unit at every step."""
    return lambda net: -net(X).log_softmax(-1)[..., unit].mean()


@pytest.mark.parametrize("place", ["conv", "out"])
def test_it_makes_the_model_answer_as_asked_by_that_vector_alone(place):
    net = Net().eval()
    steer = learn_vector(net, site_at(net, place), towards(2), steps=200)
    with torch.no_grad():
        before = net(X)
        with intervene(net, steer):
            after = net(X)
    assert (before.argmax(-1) == 2).float().mean() < 0.6
    assert (after.argmax(-1) == 2).float().mean() > 0.95
    assert not steer.vector.requires_grad and steer.vector.shape == (steer.site.units,)


def snapshot(net):
    return {
        name: (id(p), p.detach().clone(), p.requires_grad, None if p.grad is None else p.grad.clone())
        for name, p in net.named_parameters()
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_model_stays_as_it_was(training, fails):
    net = Net().train(training)
    net.conv.weight.requires_grad_(False)
    net.out.weight.grad = torch.ones(4, 8)
    net.drop.eval()
    before, hooks = snapshot(net), []
    net.conv.register_forward_hook(lambda *_: hooks.append(1))
    calls = 0

    def loss(model):
        nonlocal calls
        calls += 1
        if fails and calls == 3:
            raise RuntimeError("the disk is full")
        assert not any(parameter.requires_grad for parameter in model.parameters())
        return towards(1)(model)

    if fails:
        with pytest.raises(RuntimeError, match="disk"):
            learn_vector(net, site_at(net, "conv"), loss, steps=5)
    else:
        learn_vector(net, site_at(net, "conv"), loss, steps=5)
    after = snapshot(net)
    for name, (place, value, trained, gradient) in before.items():
        assert (place, trained) == (after[name][0], after[name][2])
        assert not changed_bits(value, after[name][1]).any()
        assert (gradient is None) == (after[name][3] is None)
        assert gradient is None or torch.equal(gradient, after[name][3])
    assert net.training == training and not net.drop.training
    assert len(net.conv._forward_hooks) == 1 and hooks


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(off):
    net = Net().eval()
    with off():
        steer = learn_vector(net, site_at(net, "conv"), towards(0), steps=3)
        assert not torch.is_grad_enabled()
    assert steer.vector.any()


@pytest.mark.parametrize("longest", [0.3, 2.0])
def test_its_length_is_bounded(longest):
    net = Net().eval()
    steer = learn_vector(net, site_at(net, "conv"), towards(2), steps=60, lr=0.5, max_norm=longest)
    assert float(steer.vector.norm()) == pytest.approx(longest, rel=1e-5)


def test_it_goes_on_from_a_start_and_leaves_that_alone():
    net, start = Net().eval(), torch.ones(8)
    moved = learn_vector(net, site_at(net, "conv"), towards(2), steps=1, lr=0.01, start=start).vector
    assert torch.equal(start, torch.ones(8))
    assert 0 < (moved - start).abs().max() <= 0.0101


def test_scope_and_strength_are_those_it_is_learned_under():
    net = Net().eval()
    steer = learn_vector(net, site_at(net, "conv"), towards(2), steps=3, scope=Scope(positions=(0, 4)), strength=0.5)
    assert steer.scope == Scope(positions=(0, 4)) and steer.strength == 0.5
    with torch.no_grad(), intervene(net, steer):
        edited = net(X)
    assert torch.equal(edited[:, 6:], net(X)[:, 6:]) and not torch.equal(edited[:, :4], net(X)[:, :4])


def test_several_batches_come_in_turn():
    net, batches = Net().eval(), iter(torch.randn(6, 2, 3, 9, generator=torch.Generator().manual_seed(2)))
    learn_vector(net, site_at(net, "conv"), lambda model: model(next(batches)).square().mean(), steps=6)
    assert next(batches, None) is None


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda net: net(X).sum() * torch.inf, ValueError, "loss at step 0 is (inf|-inf|nan)"),
        (lambda net: net(X).detach().sum(), ValueError, "does not depend on 'conv'"),
        (lambda net: net.unused(torch.ones(2)).sum(), ValueError, "does not depend on 'conv'"),
    ],
)
def test_a_loss_that_cannot_be_followed_is_an_error(loss, error, message):
    net = Net().eval()
    with pytest.raises(error, match=message):
        learn_vector(net, site_at(net, "conv"), loss, steps=3)


def test_no_steps_are_an_error():
    net = Net()
    with pytest.raises(ValueError, match="at least one step, got 0"):
        learn_vector(net, site_at(net, "conv"), towards(1), steps=0)


def test_a_site_that_never_runs_is_an_error():
    net = Net().eval()
    with pytest.raises(NeverRanError, match="'unused'"):
        learn_vector(net, Site("unused", -1, 2, ()), towards(1), steps=2)
