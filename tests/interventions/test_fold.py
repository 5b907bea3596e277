"""Folded weights compute what hooks do, unfolding is bitwise, and what cannot be folded exactly is refused with why."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from interventions.ablate import Ablate
from interventions.bits import changed_bits
from interventions.capture import capture
from interventions.clamp import Clamp, Scale, Set
from interventions.erase import Erase
from interventions.fold import fold, unfold
from interventions.intervene import Edits, intervene
from interventions.intervention import Custom
from interventions.lowrank import LowRank
from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.scope import Scope
from interventions.sites import Site, find_sites, site_at
from interventions.steer import Steer

UNITS = 6


class Net(nn.Module):
    """Each kind of module that can be folded into, with what reads its output; two have no bias."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(4, UNITS, 5, padding=2, stride=2)
        self.group = nn.GroupNorm(2, UNITS)
        self.plain = nn.Conv1d(UNITS, UNITS, 3, padding="same", bias=False)
        self.batch = nn.BatchNorm1d(UNITS)
        self.linear = nn.Linear(UNITS, UNITS)
        self.layer = nn.LayerNorm(UNITS)
        self.bare = nn.Linear(UNITS, UNITS, bias=False)
        self.head = nn.Linear(UNITS, 5)
        for norm in (self.group, self.batch, self.layer):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)
        self.batch.running_mean.normal_()

    def forward(self, x):
        x = self.group(self.conv(x)).relu()
        x = self.batch(self.plain(x)).tanh().transpose(1, 2)
        x = self.layer(self.linear(x).sigmoid())
        return self.head(self.bare(x).tanh())


ALL = ["conv", "group", "plain", "batch", "linear", "layer", "bare", "head"]
DENSE = ["conv", "plain", "linear", "bare", "head"]
INPUT = torch.randn(3, 4, 20, generator=torch.Generator().manual_seed(9))


def net(dtype=torch.float32):
    return Net().to(dtype).eval()


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(kind, place):
    """An intervention of a kind at a site, with random numbers."""
    units = place.units
    if kind == "steer":
        return Steer(place, tensor(units), 1.5)
    if kind == "zero":
        return Ablate(Neurons({place: [0, 3]}))
    if kind == "mean":
        return Ablate(Neurons({place: [1, 4]}), "mean", {place.name: tensor(units)})
    if kind == "set":
        return Set(Neurons({place: [0, 4]}), 0.7)
    if kind == "scale":
        return Scale(Neurons({place: [2, 3]}), -1.5)
    if kind == "erase":
        return Erase(place, tensor(units, 2), tensor(2, units, seed=1) * 0.5, tensor(units, seed=2))
    if kind == "lowrank":
        return LowRank(place, tensor(2, units), tensor(2, units, seed=1), tensor(2, seed=2))
    raise AssertionError(kind)


KINDS = ["steer", "zero", "mean", "set", "scale", "erase", "lowrank"]
CELLS = [(kind, name) for kind in KINDS for name in (DENSE if kind in ("erase", "lowrank") else ALL)]


def difference(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize(("kind", "name"), CELLS)
@torch.no_grad()
def test_folded_weights_give_what_hooks_give_and_unfold_bit_for_bit(kind, name, strength):
    model = net()
    edit = replace(make(kind, site_at(model, name)), strength=strength)
    before, bare = {key: value.clone() for key, value in model.state_dict().items()}, model(INPUT)
    with intervene(model, edit):
        hooked = model(INPUT)
    assert difference(hooked, bare) > 1e-3
    parameters = {key: id(parameter) for key, parameter in model.named_parameters()}
    folded = fold(model, edit)
    assert difference(model(INPUT), hooked) < 1e-6
    assert parameters.items() <= {key: id(parameter) for key, parameter in model.named_parameters()}.items()
    unfold(folded)
    after = model.state_dict()
    assert list(after) == list(before)
    assert not any(changed_bits(before[key], after[key]).any() for key in before)
    assert torch.equal(model(INPUT), bare)


@torch.no_grad()
def test_one_that_changes_nothing_changes_no_bit():
    model = net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fold(
        model,
        Steer(site_at(model, "linear"), torch.zeros(UNITS)),
        replace(make("erase", site_at(model, "conv")), strength=0.0),
    )
    assert not any(changed_bits(before[key], value).any() for key, value in model.state_dict().items())


@settings(max_examples=25)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    names=st.lists(st.sampled_from(DENSE[:-1]), min_size=4, max_size=4),
)
@torch.no_grad()
def test_several_fold_in_the_order_in_which_they_would_apply(kinds, names):
    model = net(torch.float64)
    edits = [make(kind, site_at(model, name)) for kind, name in zip(kinds, names, strict=False)]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with intervene(model, *edits):
        hooked = model(INPUT.double())
    folded = fold(model, *edits)
    torch.testing.assert_close(model(INPUT.double()), hooked, atol=1e-9, rtol=1e-9)
    unfold(folded)
    assert not any(changed_bits(before[key], value).any() for key, value in model.state_dict().items())


@torch.no_grad()
def test_padded_edges_of_a_convolution_are_right():
    """There a part of the kernel reads zeros, which an edit of the convolution's input would have to know of."""
    model = net()
    edit = make("erase", site_at(model, "conv"))
    with intervene(model, edit), capture(model, edit.site) as acts:
        model(INPUT)
    fold(model, edit)
    edges = [0, 1, -2, -1]
    torch.testing.assert_close(
        model.conv(INPUT)[..., edges], acts[edit.site].transpose(1, 2)[..., edges], atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_ablated_rows_are_zero_and_other_rows_untouched():
    model = net()
    weight = model.conv.weight.clone()
    fold(model, make("zero", site_at(model, "conv")))
    rest = [1, 2, 4, 5]
    assert not model.conv.weight[[0, 3]].any() and not model.conv.bias[[0, 3]].any()
    assert not changed_bits(model.conv.weight[rest], weight[rest]).any()


def test_a_bias_is_made_where_one_is_needed_and_goes_again():
    model = net()
    model.bare.weight.requires_grad_(False)
    folded = fold(model, make("steer", site_at(model, "bare")))
    assert "bare.bias" in model.state_dict() and not model.bare.bias.requires_grad
    unfold(folded)
    assert model.bare.bias is None and "bare.bias" not in model.state_dict()
    fold(model, make("zero", site_at(model, "bare")))
    assert model.bare.bias is None


@torch.no_grad()
def test_half_precision_weights_are_rounded_once():
    model = net(torch.bfloat16)
    place = site_at(model, "linear")
    weight, edit = model.linear.weight.double(), make("erase", place)
    fold(model, edit)
    exact = weight - edit.left.double() @ (edit.right.double() @ weight)
    assert torch.equal(model.linear.weight, exact.bfloat16())


def test_a_folded_model_trains():
    model = net()
    fold(model, make("erase", site_at(model, "conv")))
    model(INPUT).sum().backward()
    assert model.conv.weight.grad is not None


def test_two_folds_come_off_in_the_opposite_order_only():
    model = net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first = fold(model, make("steer", site_at(model, "linear")))
    second = fold(model, make("erase", site_at(model, "linear")))
    with pytest.raises(ValueError, match="Undo later folds first"):
        unfold(first)
    unfold(second)
    unfold(first)
    assert not any(changed_bits(before[key], value).any() for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="a second unfold"):
        unfold(first)


def test_unfolding_does_not_throw_away_training():
    model = net()
    folded = fold(model, make("steer", site_at(model, "linear")), make("zero", site_at(model, "conv")))
    with torch.no_grad():
        model.conv.weight[1, 0, 0] += 1
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="has changed since fold"):
        unfold(folded)
    assert not any(changed_bits(state[key], value).any() for key, value in model.state_dict().items())


def test_what_folding_did_not_touch_may_be_trained_meanwhile():
    model = net()
    bias = model.linear.bias.detach().clone()
    folded = fold(model, make("steer", site_at(model, "linear")))
    with torch.no_grad():
        model.linear.weight += 1
        model.conv.weight += 1
    trained = model.linear.weight.detach().clone()
    unfold(folded)
    assert torch.equal(model.linear.weight, trained) and not changed_bits(model.linear.bias.detach(), bias).any()


class Tied(nn.Module):
    """Output and embedding share a weight, as Whisper's and Marian's do."""

    def __init__(self):
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.body(self.embed(x)))


class Odd(nn.Linear):
    """A subclass of Linear that is not affine."""

    def forward(self, x):
        return super().forward(x).relu()


def block():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return model, Steer(Site("", -1, 8, ()), torch.ones(8))


def weight_norm():
    model = net()
    nn.utils.parametrizations.weight_norm(model.conv, dim=2)
    return model, make("zero", site_at(model, "conv"))


def old_weight_norm():
    model = net()
    model.conv.weight_g, model.conv.weight_v = nn.Parameter(torch.ones(1)), nn.Parameter(model.conv.weight.detach())
    del model.conv._parameters["weight"]
    model.conv.weight = model.conv.weight_g * model.conv.weight_v
    return model, make("zero", Site("conv", 1, UNITS, ()))


def tied():
    model = Tied()
    return model, make("zero", site_at(model, "head"))


def subclass():
    model = nn.Sequential(Odd(4, 4))
    return model, Steer(site_at(model, "0"), torch.ones(4))


def wrapped():
    model = net()
    forward = model.linear.forward
    model.linear.forward = lambda x: forward(x) * 2
    return model, make("steer", site_at(model, "linear"))


def grouped():
    model = nn.Sequential(nn.Conv1d(4, UNITS, 3, groups=2))
    return model, make("erase", site_at(model, "0"))


def norm():
    model = net()
    return model, make("lowrank", site_at(model, "layer"))


def no_weights():
    model = nn.Sequential(nn.LayerNorm(UNITS, elementwise_affine=False))
    return model, Steer(Site("0", -1, UNITS, ()), torch.ones(UNITS))


def hooked():
    model = net()
    model.linear.register_forward_hook(lambda module, args, output: output.relu())
    return model, make("steer", site_at(model, "linear"))


def active():
    model = net()
    edits = Edits(model)
    edits.add(make("zero", site_at(model, "linear")))
    return model, make("steer", site_at(model, "linear")), edits


def other_axis():
    model = net()
    return model, Steer(Site("linear", 1, UNITS, ()), torch.ones(UNITS))


def elsewhere():
    return net(), Steer(Site("decoder", -1, UNITS, ()), torch.ones(UNITS))


def scoped(scope):
    def case():
        model = net()
        return model, replace(make("steer", site_at(model, "linear")), scope=scope)

    return case


def edit(change):
    def case():
        model = net()
        return model, change(site_at(model, "linear"))

    return case


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (block, "TransformerEncoderLayer may not be affine in its weights"),
        (subclass, "Odd may not be affine"),
        (wrapped, "Linear may not be affine"),
        (weight_norm, "'conv'.*weight is not a parameter, but computed from others"),
        (old_weight_norm, "'conv'.*weight is not a parameter, but computed from others"),
        (tied, "'head'.*tied to 'embed.weight'"),
        (grouped, "Erase cannot be folded at '0': it mixes units"),
        (norm, "LowRank cannot be folded at 'layer': it mixes units"),
        (no_weights, "it has no weight"),
        (hooked, r"forward hooks \(1\)"),
        (active, "has forward hooks"),
        (other_axis, "6 units on axis 1, but the module has 6 on axis -1"),
        (elsewhere, "no module 'decoder'"),
        (scoped(Scope(steps=(0, 1))), "its scope"),
        (scoped(Scope(positions=(2, 5))), "its scope"),
        (scoped(Scope(examples=(0,), batch=2)), "its scope"),
        (edit(lambda site: Steer(site, torch.ones(3, UNITS))), "depends on the step"),
        (edit(lambda site: Steer(site, torch.ones(UNITS), (1.0, 0.0))), "depends on the step"),
        (
            edit(lambda site: Ablate(Neurons({site: [1]}), "resample", {site.name: torch.ones(4, UNITS)})),
            "a different activation each time",
        ),
        (edit(lambda site: Clamp(Neurons({site: [1]}), high=100.0)), "Clamp cannot be folded: it is not an affine map"),
        (edit(lambda site: Patch(site, torch.ones(1, 4, UNITS))), "Patch cannot be folded: it is not an affine map"),
        (edit(lambda site: Custom(site, lambda x: x * 2)), "Custom cannot be folded: it is not an affine map"),
        (edit(lambda site: Steer(site, torch.full((UNITS,), torch.inf))), "would not be finite"),
    ],
)
def test_what_is_not_exact_is_refused_with_the_reason_and_nothing_is_written(case, reason):
    model, refused, *kept = case()
    good = [make("zero", site_at(model, "conv"))] if isinstance(model, Net) and "conv" not in reason else []
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=reason):
        fold(model, *good, refused)
    after = model.state_dict()
    assert list(after) == list(before) and not any(changed_bits(before[key], after[key]).any() for key in before)


def test_two_names_of_one_module_are_one_module():
    """It is called for both, and hooks would edit it for both."""
    linear = nn.Linear(4, 4)
    model = nn.Sequential(linear, nn.Tanh(), linear)
    edit = Steer(find_sites(model)[0], torch.ones(4))
    x = torch.randn(3, 4)
    with intervene(model, edit):
        hooked = model(x)
    fold(model, edit)
    torch.testing.assert_close(model(x), hooked)
