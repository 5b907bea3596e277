"""Interpolation between a base and its adaptation: both ends bit for bit, and every kind of tuning between them."""

import copy

import pytest
import torch

from adapt.blending.interpolate import Interpolation, aligned_weights, between
from adapt.errors import InputError
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.factors import add_factors, merge_factors
from adapt.models.labels import Labels
from adapt.models.state import weights
from adapt.tuning.layers import full, head, layers
from adapt.tuning.neurons import neurons
from interventions.bits import changed_bits
from interventions.freeze import freeze_all_but
from interventions.neurons import Scores
from interventions.rows import merge_rows
from interventions.sites import find_sites


@pytest.fixture(params=["us-english", "wav2vec2", "marian"])
def base(request):
    known = request.param == "us-english"
    return load_model(request.param if known else str(request.getfixturevalue(request.param)))


def trained(base, tuning, seed=0):
    """A copy of the base with noise on the weights that `tuning` trains, and on its running statistics if all train."""
    model = copy.deepcopy(base.model)
    names = tuning(model).names
    freeze_all_but(model, names)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
        for name, buffer in model.named_buffers():
            if tuning is full and "running" in name:
                buffer.add_(torch.rand(buffer.shape, generator=draw), alpha=0.1)
    merge_rows(model)
    return model.eval()


def same(one, other):
    one, other = weights(one.net), weights(other.net)
    return one.keys() == other.keys() and not any(changed_bits(one[name], other[name]).any() for name in one)


def random_rows(model):
    return neurons(model, choose="random", per_site=True, top=0.2)


@pytest.mark.parametrize("tuning", [full, head, random_rows], ids=["full", "head", "rows"])
def test_both_ends_have_every_bit_and_the_middle_is_the_mean(base, tuning):
    adapted = trained(base, tuning)
    line = Interpolation(base.model, adapted)
    assert same(line.model_at(0), base.model)
    assert same(line.model_at(1.0), adapted)
    half = line.model_at(0.5)
    ends = zip(weights(base.model.net).items(), weights(adapted.net).values(), strict=True)
    for (name, old), new in ends:
        middle = weights(half.net)[name]
        unchanged = ~changed_bits(old, new)
        assert not changed_bits(middle, old)[unchanged].any()
        if old.is_floating_point():
            torch.testing.assert_close(middle, (old + new) / 2)


def test_a_factor_per_layer_moves_these_layers_only(base):
    adapted = trained(base, full)
    line = Interpolation(base.model, adapted)
    first, *_, last = [layer.name for layer in base.model.layers]
    mixed = weights(line.model_at({"*": 1.0, first: 0.0, last: 0.5}).net)
    old, new, half = weights(base.model.net), weights(adapted.net), weights(line.model_at(0.5).net)
    for layer, names in line.layers.items():
        expected = old if layer == first else half if layer == last else new
        assert all(torch.equal(mixed[name], expected[name]) for name in names)
    assert set(line.changed) == {name for names in line.layers.values() for name in names}


def test_a_factor_per_neuron_moves_its_rows():
    base = load_model("us-english")
    adapted = trained(base, full)
    site = find_sites(base.model)[3]
    draw = torch.rand(site.units, generator=torch.Generator().manual_seed(0))
    draw[:2] = torch.tensor([0.0, 1.0])
    every = {one: torch.ones(one.units) for one in find_sites(base.model)}
    mixed = weights(Interpolation(base.model, adapted).model_at(Scores({**every, site: draw})).net)
    old, new = weights(base.model.net), weights(adapted.net)
    for row in (name.removeprefix("net.") for name in site.rows):
        share = draw.reshape(-1, *[1] * (old[row].dim() - 1))
        torch.testing.assert_close(mixed[row], old[row] + share * (new[row] - old[row]))
        assert torch.equal(mixed[row][0], old[row][0])
        assert torch.equal(mixed[row][1], new[row][1])
    norm = site.rows[0].removeprefix("net.").replace("conv", "norm").replace(".weight", ".running_mean")
    torch.testing.assert_close(mixed[norm], old[norm] + draw * (new[norm] - old[norm]))
    others = {name for name in old if not name.startswith(site.name.removeprefix("net.")) and "norm3" not in name}
    assert all(torch.equal(mixed[name], new[name]) for name in others)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}], ids=["lora", "dora", "rslora"])
@pytest.mark.parametrize("by_neuron", [False, True], ids=["one", "rows"])
def test_a_blended_lora_is_a_lora(options, by_neuron, tmp_path):
    base = load_model("us-english")
    model = copy.deepcopy(base.model)
    site = find_sites(model)[3]
    names = add_factors(model, [site.name], "LORA", {"r": 2, "lora_alpha": 4, **options})
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in names:
            parameter = model.get_parameter(name)
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.05)
    merged = merge_factors(model)
    line = Interpolation(base.model, model.eval(), merged.factors)
    amount = torch.linspace(0.1, 0.9, site.units)
    factor = Scores({site: amount}) if by_neuron else 0.3
    blended, factors = line.model_at(factor), line.factors(factor)
    save_adaptation(tmp_path / "adaptation", base, blended, factors)
    again = load_model(str(tmp_path))
    assert same(again.model, blended)
    row = site.rows[0].removeprefix("net.")
    assert [one.module for one in factors] == [site.name]
    assert again.header["tensors"] == []  # no whole weight is stored
    old, new = weights(base.model.net)[row], weights(model.net)[row]
    share = amount.reshape(-1, *[1] * (old.dim() - 1)) if by_neuron else 0.3
    torch.testing.assert_close(weights(blended.net)[row], old + share * (new - old), rtol=1e-5, atol=1e-6)
    assert same(line.model_at(1), model)
    assert line.factors(0) == []
    assert same(line.model_at(0), base.model)


def test_other_methods_of_peft_are_stored_whole(tmp_path):
    base = load_model("us-english")
    model = copy.deepcopy(base.model)
    for name in add_factors(model, [find_sites(model)[3].name], "LOHA", {"r": 2}):
        with torch.no_grad():
            model.get_parameter(name).add_(0.1)
    merged = merge_factors(model)
    line = Interpolation(base.model, model.eval(), merged.factors)
    assert line.factors(0.5) == []
    assert len(line.factors(1)) == 1
    save_adaptation(tmp_path / "adaptation", base, line.model_at(0.5))
    assert same(load_model(str(tmp_path)).model, line.model_at(0.5))


def test_new_characters_keep_their_weights_at_any_factor():
    base = load_model("us-english")
    grown = base.model.with_labels(Labels.of("äzab' "))
    row = grown.vocabulary.index("ä")
    with torch.no_grad():
        for parameter in grown.parameters():
            parameter.add_(0.1)
    line = Interpolation(base.model, grown)
    start, head_weight = weights(line.model_at(0.0).net), f"{grown.head.removeprefix('net.')}.weight"
    assert torch.equal(start[head_weight][row], weights(grown.net)[head_weight][row])
    for token in ("z", "a", ""):
        new, old = grown.vocabulary.index(token), base.model.vocabulary.index(token)
        assert torch.equal(start[head_weight][new], weights(base.model.net)[head_weight][old])
    others = [name for name in start if not name.startswith(grown.head.removeprefix("net."))]
    assert all(torch.equal(start[name], weights(base.model.net)[name]) for name in others)
    assert same(line.model_at(1), grown)


def test_signed_zeros_whole_numbers_and_half_precision():
    old, new = torch.tensor([-0.0, 1.0, 2.0]), torch.tensor([-0.0, 1.0, 3.0])
    assert not changed_bits(between(old, new, 0.5), torch.tensor([-0.0, 1.0, 2.5])).any()
    assert between(torch.tensor(3), torch.tensor(9), 0.1) == 9
    assert between(torch.tensor(3), torch.tensor(9), 0.0) == 3
    half = between(old.half(), new.half(), 0.25)
    assert half.dtype == torch.float16
    assert half.tolist() == [-0.0, 1.0, 2.25]


def test_wrong_factors_and_wrong_models_are_refused(wav2vec2):
    base = load_model("us-english")
    line = Interpolation(base.model, trained(base, lambda model: layers(model, "last 1")))
    for wrong in (1.5, -0.1, float("nan"), "0.5", True, {"last 1": 2}):
        with pytest.raises(InputError, match=r"from 0 \(the base\) to 1 \(the adapted model\)"):
            line.amounts(wrong)
    with pytest.raises(InputError, match="'conv99' matches no layer and no weight"):
        line.amounts({"conv99": 0.5})
    assert set(line.amounts({"first 1": 0.5}).values()) == {1.0}  # a layer that did not change
    with pytest.raises(InputError, match="different architectures"):
        Interpolation(base.model, load_model(str(wav2vec2)).model)
    with pytest.raises(InputError, match="must be from 0 to 1"):
        line.amounts(Scores({find_sites(base.model)[0]: torch.full((96,), 1.2)}))
    assert aligned_weights(base.model, base.model).keys() == weights(base.model.net).keys()
