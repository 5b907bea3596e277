"""Activations with their gradients: what autograd gives by hand, also behind what overwrites; the model as before."""

import pytest
import small_models
import torch
from torch import nn

from interventions.gradients import capture_gradients
from interventions.hooks import NeverRanError
from interventions.sites import Site, find_sites

NETS = ("wav2letter", "wav2vec2", "whisper", "marian")


def run(name, net):
    """The sum of the highest scores at all steps."""
    draw = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 40, (2, 5), generator=draw)
    if name == "wav2letter":
        return net(torch.randn(2, 13, 30, generator=draw)).amax(1).sum()
    if name == "wav2vec2":
        given = {"input_values": torch.randn(2, 400, generator=draw)}
    elif name == "whisper":
        given = {"input_features": torch.randn(2, 8, 32, generator=draw), "decoder_input_ids": tokens}
    else:
        given = {"input_ids": tokens, "decoder_input_ids": tokens.flip(1)}
    return net(**given).logits.amax(-1).sum()


def read(name, net, sites):
    found = {}
    with capture_gradients(net, sites, lambda site, x, g: found.update({site.name: (x.clone(), g.clone())})):
        run(name, net).backward()
    return found


@pytest.mark.parametrize("name", NETS)
def test_as_autograd_gives_them(name):
    """By hand, without anything in place, and with a zero added at each site whose gradient is asked for."""
    net = getattr(small_models, name)()
    sites = find_sites(net)
    found = read(name, net, sites)
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    outputs, zeros, handles = {}, {}, []

    def add_zero(site):
        def hook(module, inputs, output):
            outputs[site.name] = output.detach()
            zeros[site.name] = torch.zeros_like(output, requires_grad=True)
            return output + zeros[site.name]

        return hook

    for site in sites:
        handles.append(net.get_submodule(site.name).register_forward_hook(add_zero(site)))
    run(name, net).backward()
    assert len(found) == len(sites) > 10
    for site in sites:
        x, gradient = outputs[site.name], zeros[site.name].grad
        wanted = [one if site.unit_axis == -1 else one.mT for one in (x, gradient)]
        for own, by_hand in zip(found[site.name], wanted, strict=True):
            torch.testing.assert_close(own, by_hand, atol=1e-5 * max(1, float(by_hand.abs().max())), rtol=1e-5)
    assert any(gradient.abs().max() > 0 for _, gradient in found.values())


@pytest.mark.parametrize("name", NETS)
def test_equals_captum(name):
    """Gradient times activation, one call of captum's for each layer."""
    attr = pytest.importorskip("captum.attr")
    net = getattr(small_models, name)()
    sites = find_sites(net)
    found = read(name, net, sites)
    for site in sites:
        layer = attr.LayerGradientXActivation(lambda _: run(name, net).unsqueeze(0), net.get_submodule(site.name))
        theirs = layer.attribute(torch.zeros(1)).detach()
        x, gradient = found[site.name]
        ours = x * gradient if site.unit_axis == -1 else (x * gradient).mT
        assert float((ours - theirs).abs().max()) <= 1e-5 * max(1, float(theirs.abs().max()))


def test_leaves_the_model_as_it_was():
    net = small_models.marian()
    frozen = net.get_submodule("model.encoder.layers.0")
    frozen.requires_grad_(False)
    asks = {name: parameter.requires_grad for name, parameter in net.named_parameters()}
    read("marian", net, find_sites(net))
    assert {name: parameter.requires_grad for name, parameter in net.named_parameters()} == asks
    assert all(parameter.grad is None for parameter in net.parameters())
    with pytest.raises(RuntimeError, match="halfway"), capture_gradients(net, find_sites(net), lambda *_: None):
        raise RuntimeError("halfway")
    assert {name: parameter.requires_grad for name, parameter in net.named_parameters()} == asks
    assert not any(module._forward_hooks for module in net.modules())


def test_is_zero_where_no_gradient_comes():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    found = {}
    sites = find_sites(net)
    with capture_gradients(net, sites, lambda site, x, g: found.update({site.name: g})):
        net(torch.randn(2, 6, 3))
    assert all(not gradient.any() for gradient in found.values()) and len(found) == 3


def test_what_cannot_be_read_is_an_error():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    sites = find_sites(net)
    with (
        pytest.raises(NeverRanError, match="Nothing was captured at '1'"),
        capture_gradients(net, sites, lambda *_: None),
    ):
        net[0](torch.randn(2, 6, 3)).sum().backward()
    with pytest.raises(RuntimeError, match="'0' ran twice"), capture_gradients(net, sites, lambda *_: None):
        net(torch.randn(2, 6, 3))
        net(torch.randn(2, 6, 3))
    with pytest.raises(ValueError, match="no module 'x'"), capture_gradients(net, Site("x", -1, 3, ()), print):
        pass
