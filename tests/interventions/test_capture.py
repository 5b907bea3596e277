"""What is captured is what flowed, whatever overwrites it, and nothing piles up that was not asked for."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import small_models
import torch
from torch import nn

from interventions.capture import capture
from interventions.hooks import NeverRanError
from interventions.intervene import intervene
from interventions.intervention import Custom
from interventions.reduce import Mean, Reservoir
from interventions.sites import Site, find_sites, site_at

X = torch.randn(3, 13, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net():
    return small_models.wav2letter()


def reference(net, x, name):
    """The activation of a site, by running the chain up to it and no further."""
    for inner, module in net.acoustic_model.named_children():
        x = module(x)
        if f"acoustic_model.{inner}" == name:
            return x.transpose(1, 2).clone()
    raise AssertionError(name)


@torch.no_grad()
def test_all_sites_in_one_pass_as_they_are_before_an_in_place_relu(net):
    sites = find_sites(net)
    with capture(net, sites) as acts:
        net(X)
    assert list(acts) == [site.name for site in sites] and len(acts) == 11
    negative = 0
    for site in sites:
        assert torch.equal(acts[site], reference(net, X, site.name))
        assert acts[site].shape == (3, acts[site].shape[1], site.units)
        negative += int((acts[site] < 0).sum())
    assert negative > 0


def test_a_reducer_sees_each_activation_before_it_is_overwritten_and_nothing_is_kept(net):
    seen = []
    site = find_sites(net)[2]
    with torch.no_grad(), capture(net, site, reduce=lambda site, x: seen.append((site.name, x.clone()))) as acts:
        net(X)
        net(X[:1])
    assert [name for name, _ in seen] == [site.name] * 2
    assert torch.equal(seen[0][1], reference(net, X, site.name))
    assert acts.calls(site) == []


@torch.no_grad()
def test_calls_come_in_order_and_can_be_taken_away(net):
    site = find_sites(net)[0]
    with capture(net, site) as acts:
        net(X)
        net(X[:1])
        assert [len(x) for x in acts.calls(site)] == [3, 1]
        with pytest.raises(KeyError, match=r"ran 2 times. Use calls\(\)"):
            acts[site]
        taken = acts.take()
        assert [len(x) for x in taken[site.name]] == [3, 1] and acts.calls(site) == []
        net(X[:2])
        assert len(acts[site.name]) == 2
    with pytest.raises(KeyError, match="'nowhere' is not captured. Captured sites: acoustic_model.0"):
        acts["nowhere"]


@torch.no_grad()
def test_padding_is_left_out(net):
    site = find_sites(net)[3]
    lengths = torch.tensor([20, 3, 11])
    with (
        capture(net, site) as acts,
        capture(net, site, lengths=lambda asked: lengths if asked == site else None) as own,
    ):
        net(X)
    expected = [row[:length] for row, length in zip(acts[site], lengths, strict=True)]
    assert torch.equal(own[site], torch.cat(expected))
    with pytest.raises(ValueError, match=r"lengths \(2,\)"), capture(net, site, lengths=lambda _: lengths[:2]):
        net(X)


def test_gradients_flow_where_asked(net):
    site = find_sites(net)[3]
    with capture(net, site) as detached, capture(net, site, grad=True) as kept:
        output = net(X)
    assert not detached[site].requires_grad
    (gradient,) = torch.autograd.grad(output.square().sum(), net.acoustic_model[0].weight, retain_graph=True)
    assert gradient.abs().sum() > 0  # the copies are beside the graph, and break nothing
    (gradient,) = torch.autograd.grad(kept[site].sum(), net.acoustic_model[0].weight)
    assert gradient.abs().sum() > 0


def test_hooks_come_off_after_an_exception_and_others_stay(net):
    sites = find_sites(net)
    net.acoustic_model[4].register_forward_hook(lambda *_: None)
    before = [len(module._forward_hooks) for module in net.modules()]
    with pytest.raises(ZeroDivisionError), capture(net, sites):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="no module 'nowhere'"), capture(net, [*sites, Site("nowhere", -1, 3, ())]):
        raise AssertionError("the block must not begin")
    assert [len(module._forward_hooks) for module in net.modules()] == before


def test_a_site_that_never_ran_is_an_error(net):
    with (
        pytest.raises(NeverRanError, match="Nothing was captured at 'acoustic_model.0'"),
        capture(net, find_sites(net)),
    ):
        pass


# ---------------------------------------------------------------------------------------------- forms of outputs


class Named(NamedTuple):
    note: str
    hidden: torch.Tensor
    cache: torch.Tensor


@dataclass
class Output(OrderedDict):
    """As transformers' ModelOutput: a dataclass and a mapping, whose empty fields are no keys."""

    loss: torch.Tensor | None = None
    hidden: torch.Tensor | None = None
    cache: torch.Tensor | None = None

    def __post_init__(self):
        for name in ("loss", "hidden", "cache"):
            if getattr(self, name) is not None:
                OrderedDict.__setitem__(self, name, getattr(self, name))


FORMS = {
    "tensor": lambda x: x,
    "tuple": lambda x: (x, x[:1]),
    "list": lambda x: [None, x, x[:1]],
    "named": lambda x: Named("note", x, x[:1]),
    "dict": lambda x: {"hidden": x, "cache": x[:1]},
    "dataclass": lambda x: Output(hidden=x, cache=x[:1]),
}


class Puts(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        return FORMS[self.form](x)


@pytest.mark.parametrize("form", FORMS)
def test_the_hidden_state_is_the_first_tensor_and_the_rest_stays(form):
    net, x = nn.Sequential(OrderedDict(puts=Puts(form))), torch.arange(6.0).reshape(1, 2, 3)
    site = Site("puts", -1, 3, ())
    before = net(x)
    with intervene(net, Custom(site, lambda x: x + 10)), capture(net, site) as acts:
        after = net(x)
    assert torch.equal(acts[site], x + 10) and type(after) is type(before)
    flat = [after] if form == "tensor" else list(after.values()) if isinstance(after, dict) else list(after)
    tensors = [part for part in flat if isinstance(part, torch.Tensor)]
    assert torch.equal(tensors[0], x + 10) and all(torch.equal(part, x[:1]) for part in tensors[1:])
    if form == "dataclass":
        assert torch.equal(after.hidden, x + 10) and after.loss is None
    if form == "named":
        assert after.note == "note"


def test_a_module_that_puts_out_no_tensor_is_refused():
    net = nn.Sequential(OrderedDict(puts=Puts("tensor")))
    with pytest.raises(ValueError, match="'puts' returned no tensor, but a str"), capture(net, Site("puts", -1, 3, ())):
        net("words")


# ---------------------------------------------------------------------------------------------- reducers


@torch.no_grad()
def test_a_streamed_mean_is_the_mean(net):
    sites = find_sites(net)[:3]
    parts, whole, left, right = [], Mean(), Mean(), Mean()
    for n, x in enumerate(X.split(1)):
        with capture(net, sites, reduce=whole), capture(net, sites) as acts:
            net(x)
        with capture(net, sites, reduce=right if n else left):
            net(x)
        parts.append(acts)
    for site in sites:
        expected = torch.cat([acts[site] for acts in parts]).reshape(-1, site.units).double().mean(0)
        torch.testing.assert_close(whole.result()[site.name].double(), expected, atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(left.merge(right).result()[site.name], whole.result()[site.name])
    with pytest.raises(ValueError, match="there is no mean"):
        Mean().result()


def test_a_sample_is_drawn_evenly_from_all_that_came():
    site, counts = Site("fc", -1, 1, ()), torch.zeros(20)
    for seed in range(1500):
        sample = Reservoir(4, seed)
        for part in torch.arange(20.0).reshape(20, 1).split([1, 7, 12]):
            sample(site, part)
        rows = sample.result()["fc"]
        assert rows.shape == (4, 1) and len(rows.unique()) == 4
        counts[rows.long().squeeze(1)] += 1
    assert (counts - 300).abs().max() < 5 * (1500 * 0.2 * 0.8) ** 0.5
    small = Reservoir(4)
    small(site, torch.ones(2, 1, 1))
    assert small.result()["fc"].shape == (2, 1)
    with pytest.raises(ValueError, match="the reservoir is empty"):
        Reservoir(1).result()
    with pytest.raises(ValueError, match="rows=0"):
        Reservoir(0)


@torch.no_grad()
def test_captures_of_several_families_have_units_last():
    for name, place in [
        ("wav2vec2", "wav2vec2.feature_extractor.conv_layers.1"),
        ("whisper", "model.encoder.layers.1"),
    ]:
        net = getattr(small_models, name)()
        site = site_at(net, place)
        with capture(net, site) as acts:
            if name == "wav2vec2":
                net(torch.randn(2, 400))
            else:
                net(torch.randn(2, 8, 32), decoder_input_ids=torch.tensor([[3], [4]]))
        assert acts[site].shape[0] == 2 and acts[site].shape[2] == site.units
