"""`tuning=lora` and `tuning=peft`: where factors go by default and by choice, and what their training costs."""

import copy

import pytest
import torch
from small_hf import save_ctc
from small_mt import save_translation

from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.factors import merge_factors, unmerge_factors
from adapt.models.state import model_fingerprint
from adapt.tuning.lora import lora, peft
from adapt.tuning.neurons import neurons
from interventions.freeze import freeze_all_but


def places(model, tuning=lora, **options):
    """The modules that get factors, in the model's order."""
    names = tuning(model, **options).names
    assert set(names) <= dict(model.named_parameters()).keys()
    return [one.module for one in merge_factors(model).factors]


def test_by_default_all_convolutions_of_wav2letter():
    model = load_model("us-english").model
    assert places(model) == [site.name for site in model.sites]


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "marian"])
def test_by_default_the_projections_of_attention(request, family):
    model = load_model(str(request.getfixturevalue(family))).model
    chosen, classes = places(model), [type(module) for module in model.modules()]
    assert chosen == [site.name for site in model.sites if "attn." in site.name or "attention." in site.name]
    assert len(chosen) == (8 if family == "wav2vec2" else 24)
    assert {name.rpartition(".")[2] for name in chosen} == {"q_proj", "k_proj", "v_proj", "out_proj"}
    assert [type(module) for module in model.modules()] == classes


def test_in_other_models_too(tmp_path):
    t5 = places(load_model(str(save_translation(tmp_path / "t5", "T5"))).model)
    assert {name.rpartition(".")[2] for name in t5} == {"q", "k", "v", "o"} and len(t5) == 24
    # Its projections of attention are never called.
    wavlm = places(load_model(str(save_ctc(tmp_path / "wavlm", "WavLM"))).model)
    assert wavlm and not any("attention" in name or "conv" in name for name in wavlm)


def test_by_sites_and_layers(marian, wav2vec2):
    model = load_model(str(marian)).model
    assert places(model, sites="*.decoder.*.fc?") == [f"net.model.decoder.layers.{n}.fc{m}" for n in "01" for m in "12"]
    chosen = places(model, layers="decoder last 1")
    assert len(chosen) == 8 and all(name.startswith("net.model.decoder.layers.1.") for name in chosen)
    assert places(model, sites=["*.k_proj"], layers=["encoder first 1"]) == [
        "net.model.encoder.layers.0.self_attn.k_proj"
    ]
    model = load_model(str(wav2vec2)).model
    assert not any("pos_conv" in name for name in places(model, sites="*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sites": "*.no"}, r"tuning=lora: No site matches '\*\.no'"),
        ({"layers": "decoder last 9"}, "No layer matches"),
        ({"sites": "net.lm_head"}, "tied to 'net.model.shared.weight'"), ({"r": 0}, "`r` should be a positive integer"),
        ({"options": {"ranks": 1}}, "unexpected keyword argument 'ranks'"),
        *(({"alpha": one}, "alpha must be a number above 0") for one in (0, -1, float("nan"), float("inf"), True, "x")),
        *(({"dropout": one}, "dropout must be a share") for one in (-0.1, 1, float("nan"), True, None)),
    ],
)  # fmt: skip
def test_a_choice_that_is_none_is_an_input_error(marian, options, said):
    with pytest.raises(InputError, match=said):
        lora(load_model(str(marian)).model, **options)


def test_options_are_names_and_values(marian):
    model = load_model(str(marian)).model
    for tuning in (lora, lambda model, options: peft(model, method="LOHA", options=options).names):
        with pytest.raises(InputError, match="options must be names and values"):
            tuning(model, options=["r"])


def test_what_has_trained_rows_or_factors_is_refused(marian):
    model = load_model(str(marian)).model
    neurons(model, choose="random", sites="*.decoder.*.k_proj")
    with pytest.raises(InputError, match="k_proj' cannot have factors: only some of its rows train"):
        lora(model)
    lora(model, sites="*.encoder.*.k_proj")
    with pytest.raises(InputError, match="encoder.layers.0.self_attn.k_proj' cannot have factors: it already has some"):
        lora(model, layers="encoder")
    assert len(lora(model, sites="*.encoder.*.v_proj").names) == 4


def test_ia3_scales_what_comes_out_and_where_it_is_told_what_goes_in(marian):
    model = load_model(str(marian)).model
    with torch.no_grad():
        model.get_parameter("net.model.encoder.layers.0.self_attn.k_proj.bias").fill_(1)
    base, chosen = model_fingerprint(model), ["*.k_proj", "*.v_proj", "*.fc2"]
    freeze_all_but(model, peft(model, method="IA3", options={"feedforward_modules": "*.fc2"}, sites=chosen).names)
    assert model.get_parameter("net.model.encoder.layers.0.fc2.ia3_l.default").shape == (1, 48)
    assert model.get_parameter("net.model.encoder.layers.0.self_attn.k_proj.ia3_l.default").shape == (32, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.1)
    merged = merge_factors(model)
    weight = "net.model.encoder.layers.0.fc2.weight"
    assert torch.allclose(model.get_parameter(weight), 1.1 * load_model(str(marian)).model.get_parameter(weight))
    assert "net.model.encoder.layers.0.fc2.bias" not in merged.counts
    assert merged.counts["net.model.encoder.layers.0.self_attn.k_proj.bias"] == 0
    unmerge_factors(merged)
    assert model_fingerprint(model) == base


def test_a_feature_encoder_below_the_factors_computes_no_gradient(wav2vec2):
    """Research on peft: it pays for all of the convolutions' backward, 1.5 times the step."""
    model = load_model(str(wav2vec2)).model
    freeze_all_but(model, lora(model).names)
    model.train()
    seen = []
    convolutions = model.net.wav2vec2.feature_extractor.conv_layers
    for layer in convolutions:
        layer.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    loss = model(torch.randn(1, 8000), torch.tensor([8000])).log_probs.square().mean()
    loss.backward()
    assert seen == [False] * len(convolutions)
    assert all(own.grad is not None for name, own in model.named_parameters() if ".lora_B." in name)


@pytest.mark.parametrize("use_dora", [False, True])
def test_gradients_are_the_same_under_checkpointing(whisper, use_dora):
    def gradients(checkpointed):
        model = load_model(str(whisper)).model
        freeze_all_but(model, lora(model, use_dora=use_dora).names)
        if checkpointed:
            model.net.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        with torch.no_grad():
            for name, own in model.named_parameters():
                if ".lora_B." in name:
                    own.fill_(0.01)
        torch.manual_seed(0)
        audio, lengths, targets = torch.randn(1, 8000), torch.tensor([8000]), torch.tensor([[5, 6, 7]])
        model(audio, lengths, targets).square().mean().backward()
        return {name: own.grad for name, own in model.named_parameters() if own.requires_grad}

    plain, checkpointed = gradients(False), gradients(True)
    assert all(torch.equal(own, checkpointed[name]) for name, own in plain.items())
    assert all(own.abs().max() > 0 for own in plain.values())


def test_a_copy_of_a_model_with_factors_is_whole(marian):
    model = load_model(str(marian)).model
    lora(model)
    twin = copy.deepcopy(model)
    assert len(merge_factors(twin).factors) == len(merge_factors(model).factors) == 24
    assert model_fingerprint(twin) == model_fingerprint(model) == load_model(str(marian)).fingerprint
