"""CTC models of transformers: results equal those of transformers, padding changes nothing, frozen layers stay off."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from site_checks import activations, check_alone, check_padded
from small_hf import save_ctc
from torch import nn

from adapt.data.loader import collate
from adapt.data.manifest import Utterance
from adapt.data.text import normalise
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.ctc import ctc_decode, ctc_loss
from adapt.models.hf_ctc import hf_ctc
from adapt.models.waveform_encoders import BATCHED
from adapt.training.module import AdaptationModule
from adapt.tuning.layers import full, head, layers
from interventions.freeze import freeze_all_but
from interventions.sites import Step

SAMPLES = (9000, 5000, 7123)
TEXTS = ("ab cad", "eb", "dad add")
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
KINDS = {
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2, layer norm": ("Wav2Vec2", LAYER_NORM),
    "hubert": ("Hubert", {}),
    "hubert, layer norm": ("Hubert", LAYER_NORM),
    "wavlm": ("WavLM", {}),
    "wavlm, layer norm": ("WavLM", LAYER_NORM),
    "unispeech": ("UniSpeech", {}),
    "unispeech-sat": ("UniSpeechSat", {}),
    "data2vec": ("Data2VecAudio", {}),
    "conformer": ("Wav2Vec2Conformer", {}),
    "sew": ("SEW", {"squeeze_factor": 2}),
    "adapter": ("Wav2Vec2", {"add_adapter": True, "output_hidden_size": 24, "num_adapter_layers": 2}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            kind, options = KINDS[name]
            made[name] = save_ctc(tmp_path_factory.mktemp("ctc") / "model", kind, name != "hubert", **options)
        return made[name]

    return folder


@pytest.fixture
def model(wav2vec2):
    return load_model(str(wav2vec2)).model


def batch_of(*numbers):
    draw = torch.Generator().manual_seed(0)
    audio = [0.3 * torch.randn(samples, generator=draw) + 0.1 for samples in SAMPLES]
    return collate([(Utterance(Path(f"{n}.wav"), TEXTS[n]), audio[n]) for n in numbers])


def bare(folder):
    """The network and its processor, used as in the documentation of transformers."""
    from transformers import AutoModelForCTC, AutoProcessor

    return AutoModelForCTC.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


@pytest.mark.parametrize("name", KINDS)
def test_padding_changes_nothing(folders, name):
    model = load_model(str(folders(name))).model
    batch = batch_of(0, 1, 2)
    with torch.inference_mode():
        together, texts = model(batch.inputs, batch.lengths), ctc_decode(model, batch)
        for number in range(3):
            one = batch_of(number)
            alone = model(one.inputs, one.lengths)
            assert alone.lengths.tolist() == [together.lengths[number]] == [alone.log_probs.shape[1]]
            own = together.log_probs[number : number + 1, : together.lengths[number]]
            torch.testing.assert_close(own, alone.log_probs, atol=1e-5, rtol=1e-5)
            assert ctc_decode(model, one) == [texts[number]]
    assert len({*texts}) == 3


@pytest.mark.parametrize("name", KINDS)
def test_logits_loss_and_text_equal_those_of_transformers(folders, name):
    net, processor = bare(folders(name))
    model = load_model(str(folders(name))).model
    one = batch_of(0)
    inputs = processor(one.inputs[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    labels = processor.tokenizer(TEXTS[0].upper(), return_tensors="pt").input_ids
    with torch.inference_mode():
        expected = net(inputs, labels=labels)
        emissions = model(one.inputs, one.lengths)
        torch.testing.assert_close(emissions.log_probs, expected.logits.log_softmax(-1), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ctc_loss(model, one), expected.loss, atol=1e-5, rtol=1e-5)
        said = processor.tokenizer.decode(expected.logits[0].argmax(-1))
        assert ctc_decode(model, one) == [normalise(re.sub("<[a-z/]+>", "", said))]
    assert model.encode(TEXTS[0]) == labels[0].tolist()


@pytest.mark.parametrize("name", KINDS)
def test_every_parameter_is_in_one_layer(folders, name):
    model = load_model(str(folders(name))).model
    own = [f"{m}.{p}" for layer in model.layers for m in layer.modules
           for p, _ in model.get_submodule(m).named_parameters(recurse=False)]  # fmt: skip
    assert sorted(own) == sorted(name for name, _ in model.named_parameters())
    numbered = [layer.name.rpartition(".")[2] for layer in model.layers]
    adapting = ["0", "1"] if name == "adapter" else []
    assert numbered == ["0", "1", "2", "feature_projection", "pos_conv_embed", "0", "1", *adapting, "lm_head"]
    norm = f"net.{model.net.base_model_prefix}.encoder.layer_norm"
    assert norm in model.layers[-2 if "layer norm" in name else 4].modules


@pytest.mark.parametrize("name", KINDS)
def test_sites_have_the_steps_they_say(folders, name):
    model = load_model(str(folders(name))).model
    alone = [check_alone(model, one.lengths, None, one.inputs, one.lengths) for one in map(batch_of, range(3))]
    if model.net.config.model_type in BATCHED:
        batch = batch_of(0, 1, 2)
        together = activations(model, batch.inputs, batch.lengths)
        for number in range(3):
            check_padded(model, number, batch.lengths, None, together, alone[number])
    extractor = [site.step for site in model.sites if ".feature_extractor." in site.name]
    assert extractor == [Step(5 / 16_000, "s"), Step(40 / 16_000, "s"), Step(160 / 16_000, "s")]
    assert {site.part for site in model.sites} == {"encoder"}
    assert model.sites[-1].name == model.head
    assert model.sites[-1].step == Step(0.04 if name == "adapter" else 0.01, "s")


def test_published_convolutions_step_by_20_ms(tmp_path):
    sizes = {"conv_dim": (8,) * 7, "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2)}
    model = load_model(str(save_ctc(tmp_path / "model", num_feat_extract_layers=7, **sizes))).model
    lasting = [site.step.length for site in model.sites]
    assert lasting[:7] == [5 * 2**n / 16_000 for n in range(7)] and set(lasting[6:]) == {0.02}
    assert model.valid_lengths(model.sites[-1], torch.tensor([16_000, 400, 399])).tolist() == [49, 1, 0]


def test_letters_in_both_cases_and_the_word_delimiter(model):
    assert model.encode("  A b\n") == model.encode("a B") == [5, 4, 6]
    assert model.decode([0, 5, 5, 0, 5, 4, 4, 6, 3, 1]) == "aa b"
    assert model.missing("Ab ö f!") == ["!", "f", "ö"]
    with pytest.raises(InputError, match="'f', outside the vocabulary ' abcde'"):
        model.encode("f")


def trained(model, names):
    freeze_all_but(model, names)
    AdaptationModule(model, model.task, torch.optim.SGD).train()
    return model


def hidden(model, name):
    """Return a module's output in training, which tells whether a gradient is computed there."""
    found = []
    handle = model.get_submodule(name).register_forward_hook(lambda *parts: found.append(parts[2]))
    try:
        ctc_loss(model, batch_of(0, 1)).backward()
    finally:
        handle.remove()
    return found[0]


EXTRACTOR = "net.wav2vec2.feature_extractor"


def test_a_frozen_feature_encoder_computes_no_gradient(model):
    trained(model, layers(model, layers=["*.feature_projection", "*.encoder.*", "*.lm_head"]).names)
    assert not hidden(model, EXTRACTOR).requires_grad
    # Even if it is in train mode, which the encoder checks.
    model.get_submodule(EXTRACTOR).train()
    assert not hidden(model, EXTRACTOR).requires_grad
    assert model.net.wav2vec2.feature_projection.projection.weight.grad.abs().sum() > 0


def test_a_trained_feature_encoder_computes_a_gradient(model):
    trained(model, full(model).names)
    assert hidden(model, EXTRACTOR).requires_grad
    assert model.net.wav2vec2.feature_extractor.conv_layers[0].conv.weight.grad.abs().sum() > 0


def test_nothing_below_the_lowest_trained_layer_has_a_gradient(model):
    trained(model, layers(model, layers="last 2").names)
    assert not hidden(model, "net.wav2vec2.encoder.layers.0.final_layer_norm").requires_grad


def test_frozen_layers_stay_in_eval_mode(model):
    body = model.net.wav2vec2
    model.configure(mask_time_prob=0.5, layerdrop=0.9)
    trained(model, full(model).names)
    assert body.training and body.encoder.training and body.encoder.dropout.training
    trained(model, layers(model, layers="last 2").names)
    assert not body.training  # SpecAugment belongs to the projection
    assert not body.encoder.training  # LayerDrop would also skip the frozen layer
    assert not body.encoder.dropout.training and not any(m.training for m in body.encoder.layers[0].modules())
    assert all(m.training for m in body.encoder.layers[1].modules()) and model.net.dropout.training
    # The layers below the trained layer therefore compute the same as in eval mode.
    name = "net.wav2vec2.encoder.layers.0.final_layer_norm"
    one = hidden(model, name)
    model.eval()
    torch.testing.assert_close(one, hidden(model, name), atol=0, rtol=0)
    trained(model, head(model).names)
    assert {n for n, m in model.net.named_modules() if m.training} == {"", "lm_head", "dropout"}


def test_layerdrop_and_masks_follow_the_options(wav2vec2):
    batch = batch_of(0, 1, 2)

    def losses(**options):
        model = hf_ctc(str(wav2vec2), **options).model
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for name in ("attention_dropout", "activation_dropout"):
            setattr(model.net.config, name, 0.0)
        for layer in model.net.wav2vec2.encoder.layers:
            layer.attention.dropout = 0.0
        model.train()
        return {round(ctc_loss(model, batch).item(), 4) for _ in range(6)}

    assert len(losses(mask_time_prob=0.0, layerdrop=0.0)) == 1
    assert len(losses(mask_time_prob=0.4, layerdrop=0.0)) > 1
    assert 1 < len(losses(mask_time_prob=0.0, layerdrop=0.5)) <= 4  # each of the two layers runs or is skipped


def test_the_mask_embedding_counts_only_if_it_is_used(wav2vec2):
    name = "net.wav2vec2.masked_spec_embed"
    model = hf_ctc(str(wav2vec2)).model
    assert name in full(model).names and name in layers(model, layers="*.feature_projection").names
    model = hf_ctc(str(wav2vec2), mask_time_prob=0.0).model
    assert name not in full(model).names and name not in layers(model, layers="*.feature_projection").names
    assert len(full(model).names) == len(list(model.parameters())) - 1


def test_audio_too_short_to_be_masked_is_trained_on(wav2vec2):
    model = hf_ctc(str(wav2vec2), mask_time_prob=0.9).model.train()
    model.net.config.mask_time_length = 50
    assert torch.isfinite(ctc_loss(model, batch_of(1))) and model.net.wav2vec2.training


def test_checkpointing_changes_no_gradient(wav2vec2):
    gradients = []
    for wanted in (False, True):
        model = hf_ctc(str(wav2vec2), mask_time_prob=0.0, layerdrop=0.0, gradient_checkpointing=wanted).model
        trained(model, layers(model, layers=["*.encoder.*", "*.lm_head"]).names)
        torch.manual_seed(0)
        ctc_loss(model, batch_of(0, 1)).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        assert any(getattr(m, "gradient_checkpointing", False) for m in model.modules()) == wanted
    assert gradients[0].keys() == gradients[1].keys()
    for name in gradients[0]:
        torch.testing.assert_close(*(g[name] for g in gradients), atol=1e-6, rtol=1e-4)


def test_a_copy_is_independent(model):
    other = copy.deepcopy(model)
    with torch.inference_mode():
        other.net.lm_head.weight.mul_(2)
        other.net.wav2vec2.feature_extractor.conv_layers[0].layer_norm.weight.mul_(2)
        batch = batch_of(0, 1)
        assert not torch.allclose(
            model(batch.inputs, batch.lengths).log_probs, other(batch.inputs, batch.lengths).log_probs
        )
    assert model.net.state_dict().keys() == other.net.state_dict().keys()


def test_rejection_reasons(model):
    utterance = Utterance(Path("a.wav"), "ab fg")
    assert "lasts 0.006 s, shorter than the 0.010 s" in model.rejection_reason(utterance, 100, False)
    assert model.rejection_reason(utterance, 9000, False) is None
    assert "contains 'f', 'g', outside the model's alphabet ' abcde'" in model.rejection_reason(utterance, 9000, True)
    assert "output steps" in model.rejection_reason(Utterance(Path("a.wav"), "ab" * 30), 5000, True)
    assert model.rejection_reason(Utterance(Path("a.wav"), "ab"), 5000, True) is None
    reach = next(n for n in range(1, 9000) if model.rejection_reason(utterance, n, False) is None)
    assert model._steps(torch.tensor(reach)) == 1 and model._steps(torch.tensor(reach - 1)) == 0


def test_a_missing_embedding_for_masks_is_the_same_each_time(wav2vec2, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in wav2vec2.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["wav2vec2.masked_spec_embed"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    prints = []
    for seed in range(2):
        torch.manual_seed(seed)
        prints.append(load_model(str(tmp_path)).fingerprint)
    assert prints[0] == prints[1] != load_model(str(wav2vec2)).fingerprint


def test_errors(wav2vec2, whisper, base, tmp_path):
    with pytest.raises(InputError, match="hf_ctc needs pretrained="):
        hf_ctc()
    with pytest.raises(InputError, match="is of the family hf_speech_seq2seq, not hf_ctc. Give pretrained="):
        hf_ctc(str(whisper))
    with pytest.raises(InputError, match="is of the family wav2letter, not hf_ctc.*model=pretrained"):
        hf_ctc(str(base))
    unmasked = save_ctc(tmp_path / "unmasked", mask_time_prob=0.0)
    with pytest.raises(InputError, match="no embedding to mask with"):
        hf_ctc(str(unmasked), mask_time_prob=0.1)
    for options in ({"mask_time_prob": 1.0}, {"layerdrop": -0.1}):
        with pytest.raises(InputError, match="must be a share of at least 0 and below 1"):
            hf_ctc(str(wav2vec2), **options)
    with pytest.raises(InputError, match="set mask_time_prob"):
        hf_ctc(str(wav2vec2)).model.set_augment(nn.Dropout())
    settings = json.loads((unmasked / "vocab.json").read_text())
    words = {token if len(token) != 1 else f"{token}x": unit for token, unit in settings.items()}
    (unmasked / "vocab.json").write_text(json.dumps({**words, "||": words.pop("|x")}))
    with pytest.raises(InputError, match="no single characters"):
        load_model(str(unmasked))
