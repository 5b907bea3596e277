"""Changed weights are counted bit by bit, in the right layer and neuron."""

import copy
import math

import pytest
import torch
from torch import nn

from adapt.introspect.scores import change
from adapt.introspect.weights.change import weight_change
from adapt.introspect.weights.measures import weight_measures
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape


def small(labels=" abc", **shape):
    torch.manual_seed(0)
    model = Wav2LetterCTC(
        Wav2LetterShape(**{"n_features": 13, "inner": 8, "big": 12, "normalisation": "batch", **shape}),
        Labels.of(labels),
    )
    nn.init.normal_(model.net.acoustic_model[-1].bias)
    return model


@pytest.fixture
def pair():
    before = small()
    return before, copy.deepcopy(before)


def convolution(model, number):
    return model.get_submodule(model.layers[number].name)


@pytest.mark.parametrize("normalisation", ["batch", "layer", "none"])
def test_an_unchanged_model(normalisation):
    before = small(normalisation=normalisation)
    names = [name for name, _ in before.named_parameters()]
    change = weight_change(before, copy.deepcopy(before), names)
    assert change.changed == change.buffers_changed == 0
    assert change.total == change.trained == sum(p.numel() for p in before.parameters())
    assert [layer.name for layer in change.layers] == [layer.name for layer in before.layers]
    for layer in change.layers:
        assert layer.changed == 0 and layer.relative == 0 and layer.cosine == pytest.approx(1)
        assert set(layer.neurons) == {0.0}
    assert [len(layer.neurons) for layer in change.layers] == [8] * 8 + [12] * 2 + [5]


def test_a_planted_row_is_found_at_its_neuron_and_layer_only(pair):
    before, after = pair
    convolution(after, 3).weight.data[5] *= 1.5
    change = weight_change(before, after)
    row = convolution(before, 3).weight.detach()[5]
    assert change.changed == row.numel() and change.trained == 0
    for number, layer in enumerate(change.layers):
        moved = [unit for unit, value in enumerate(layer.neurons) if value != 0]
        if number != 3:
            assert layer.changed == 0 and layer.relative == 0 and moved == []
            continue
        assert layer.changed == row.numel() and moved == [5]
        incoming = torch.cat([row.flatten(), convolution(before, 3).bias.detach()[5:6]]).double()
        assert layer.neurons[5] == pytest.approx(float(0.5 * row.double().norm() / incoming.norm()))
        assert 0 < layer.relative < layer.neurons[5] and 0.5 < layer.cosine < 1


def test_a_planted_bias_and_a_planted_norm(pair):
    before, after = pair
    convolution(after, 2).bias.data[1] += 1
    after.net.acoustic_model.norm6.weight.data[0] += 1
    change = weight_change(before, after)
    assert [layer.changed for layer in change.layers] == [0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]
    assert [unit for unit, value in enumerate(change.layers[2].neurons) if value] == [1]
    assert not any(change.layers[6].neurons)  # the scale of a norm is not an incoming weight of the neuron
    assert change.layers[6].relative > 0


def test_a_sign_of_zero_counts(pair):
    before, after = pair
    before.net.acoustic_model.norm0.bias.data[:] = 0.0
    after.net.acoustic_model.norm0.bias.data[:] = -0.0
    change = weight_change(before, after)
    assert change.changed == change.layers[0].changed == 8 and change.layers[0].relative == 0


def test_opposite_weights_have_cosine_minus_one(pair):
    before, after = pair
    for parameter in after.parameters():
        parameter.data *= -1
    for layer in weight_change(before, after).layers:
        assert layer.relative == pytest.approx(2) and layer.cosine == pytest.approx(-1)


def test_buffers_are_counted_separately(pair):
    before, after = pair
    norm = after.net.acoustic_model.norm4
    norm.running_mean[:3] += 1
    norm.num_batches_tracked += 1
    change = weight_change(before, after)
    assert change.changed == 0 and change.buffers_changed == 4
    assert [layer.buffers_changed for layer in change.layers] == [0] * 4 + [4] + [0] * 6


def test_totals_add_up(pair):
    before, after = pair
    torch.manual_seed(1)
    for name, parameter in after.named_parameters():
        if "conv1" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    trained = [name for name, _ in after.named_parameters() if "conv1" in name]
    change = weight_change(before, after, trained)
    for key in ("total", "trained", "changed", "buffers_changed"):
        assert getattr(change, key) == sum(getattr(layer, key) for layer in change.layers)
    assert 0 < change.changed <= change.trained < change.total == sum(p.numel() for p in after.parameters())


def test_a_weight_normalised_layer_is_compared_as_it_is_used(wav2vec2):
    before = load_model(str(wav2vec2)).model
    after = copy.deepcopy(before)
    conv = after.net.wav2vec2.encoder.pos_conv_embed.conv
    with torch.no_grad():
        conv.parametrizations.weight.original1[3] *= 2  # all units share the norm, so all change
    change = weight_change(before, after)
    moved = next(layer for layer in change.layers if layer.changed)
    assert moved.name.endswith("pos_conv_embed") and moved.changed == change.changed
    old, new = (model.net.wav2vec2.encoder.pos_conv_embed.conv.weight.detach().double() for model in (before, after))
    expected = (new - old).flatten(1).norm(dim=1) / old.flatten(1).norm(dim=1)
    assert moved.neurons == pytest.approx(expected.tolist()) and min(moved.neurons) > 0


def test_a_tied_weight_is_counted_once(whisper):
    before = load_model(str(whisper)).model
    after = copy.deepcopy(before)
    after.net.proj_out.weight.data[5] += 1
    change = weight_change(before, after)
    assert change.total == sum(p.numel() for p in before.parameters()) and change.buffers_changed == 0
    assert change.changed == before.net.proj_out.weight.shape[1]
    layer = next(layer for layer in change.layers if layer.changed)
    assert layer.name == after.head and [unit for unit, value in enumerate(layer.neurons) if value] == [5]


def test_output_units_are_paired_by_character():
    before = small(" abc")
    after = before.with_labels(Labels.of("cxa "))
    change = weight_change(before, after, [name for name, _ in after.named_parameters()])
    assert not any(layer.changed for layer in change.layers[:-1])
    head = change.layers[-1]
    assert head.neurons == [0.0, 0.0, None, 0.0, 0.0]  # blank, c, x, a, space
    assert head.changed == 12 + 1 and head.total == 5 * 13 == head.trained
    assert head.relative == 0 and head.cosine == pytest.approx(1)
    convolution(after, -1).weight.data[3] *= 2
    head = weight_change(before, after).layers[-1]
    assert [unit for unit, value in enumerate(head.neurons) if value] == [3]
    assert head.changed == 13 + 12 and 0 < head.relative < 1


def test_fewer_characters_are_paired_too():
    before = small(" abc")
    change = weight_change(before, before.with_labels(Labels.of("b")))
    assert change.layers[-1].neurons == [0.0, 0.0] and change.changed == 0


@pytest.mark.parametrize("labels", [" abc", " abcd"], ids=["same alphabet", "another alphabet"])
@pytest.mark.parametrize("shape", [{"inner": 9}, {"big": 13}, {"n_features": 14}, {"normalisation": "none"}], ids=str)
def test_models_of_other_shapes_are_refused(shape, labels):
    with pytest.raises(ValueError, match="one architecture"):
        weight_change(small(), small(labels, **shape))


def test_models_of_other_families_are_refused():
    torchaudios = Wav2LetterCTC(Wav2LetterShape("log_mel", 13), Labels.of("ab"))
    for pair in ((small(), torchaudios), (torchaudios, small())):
        with pytest.raises(ValueError, match="one architecture"):
            weight_change(*pair)


def test_weights_that_were_zero_give_numbers(pair):
    """JSON, in which reports and metrics are stored, has no NaN."""
    before, _ = pair
    for parameter in before.get_submodule(before.layers[1].name).parameters():
        parameter.data.zero_()
    norm = before.net.acoustic_model.norm1
    norm.weight.data.zero_()
    after = copy.deepcopy(before)
    layer = weight_change(before, after).layers[1]
    assert layer.relative == 0 and set(layer.neurons) == {0.0}
    norm = after.net.acoustic_model.norm1
    norm.weight.data += 1
    layer = weight_change(before, after).layers[1]
    assert math.isfinite(layer.relative) and math.isfinite(layer.cosine)


def test_the_report_the_measure_and_the_score_agree(pair):
    """The score is the same change, relative to the weights of the layer instead of those of the neuron."""
    before, after = pair
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in after.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    sites = before.sites
    scores, measured = change(before, after, sites), weight_measures(before, after, outgoing=False).incoming
    for layer, site in zip(weight_change(before, after).layers, sites, strict=True):
        old, new = (
            torch.cat([own.get_parameter(name).detach().double().flatten(1) if name.endswith("weight")
                       else own.get_parameter(name).detach().double()[:, None] for name in site.rows], 1)
            for own in (before, after)
        )  # fmt: skip
        moved, size = (new - old).square().sum(1).sqrt(), old.square().sum(1).sqrt()
        # Summed in another order, so that the last bit may differ.
        assert layer.neurons == pytest.approx(measured[site].tolist(), rel=1e-12)
        assert layer.neurons == pytest.approx((moved / size).tolist())
        torch.testing.assert_close(scores[site], moved / size.square().mean().sqrt())
        order = scores[site].sort(descending=True, stable=True).indices
        assert torch.equal(order, moved.sort(descending=True, stable=True).indices)


def test_weights_are_compared_in_blocks_as_they_are_whole(pair, monkeypatch):
    before, after = pair
    whole = weight_change(before, after)
    monkeypatch.setattr("adapt.introspect.weights.change._BLOCK", 100)
    blocks = weight_change(before, after)
    assert blocks.changed == whole.changed
    for one, other in zip(blocks.layers, whole.layers, strict=True):
        assert (one.relative, one.cosine) == pytest.approx((other.relative, other.cosine), rel=1e-12)
        assert one.neurons == pytest.approx(other.neurons, rel=1e-12)
