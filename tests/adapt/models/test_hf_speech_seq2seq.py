"""Whisper: results equal those of transformers, padding changes nothing, and generation follows the options."""

import json
from pathlib import Path

import pytest
import torch
from site_checks import activations, check_padded
from small_hf import save_whisper
from torch import nn

from adapt.data.loader import collate
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.hf_speech_seq2seq import hf_speech_seq2seq
from adapt.models.seq2seq import IGNORED, seq2seq_decode, seq2seq_loss
from adapt.models.state import weights
from adapt.training.module import AdaptationModule
from adapt.tuning.layers import full, head, layers
from interventions.freeze import freeze_all_but
from interventions.sites import TOKEN, Step, choose_layers, choose_sites

SAMPLES = (9000, 5000, 7123)
TEXTS = ("Ab, cad.", "eb", "dad add")


@pytest.fixture
def model(whisper):
    return hf_speech_seq2seq(str(whisper), language="german").model


def batch_of(*numbers):
    draw = torch.Generator().manual_seed(0)
    audio = [0.3 * torch.randn(samples, generator=draw) for samples in SAMPLES]
    return collate([(Utterance(Path(f"{n}.wav"), TEXTS[n]), audio[n]) for n in numbers])


def bare(folder):
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    return AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


def test_padding_changes_nothing(model):
    batch = batch_of(0, 1, 2)
    targets = nn.utils.rnn.pad_sequence([torch.tensor(model.encode(t)) for t in TEXTS], True, IGNORED)
    with torch.inference_mode():
        features = model._features(batch.inputs, batch.lengths)["input_features"]
        assert torch.equal(features[1:2], model._features(batch.inputs[1:2], batch.lengths[1:2])["input_features"])
        together, texts = model(batch.inputs, batch.lengths, targets), seq2seq_decode(model, batch)
        for number in range(3):
            one, target = batch_of(number), targets[number : number + 1]
            target = target[target != IGNORED].unsqueeze(0)
            alone = model(one.inputs, one.lengths, target)
            own = together[number : number + 1, : target.shape[1]]
            torch.testing.assert_close(own, alone, atol=1e-5 * float(alone.abs().max()), rtol=1e-5)
            assert seq2seq_decode(model, one) == [texts[number]]
    assert len({*texts}) == 3


def test_sites_have_the_steps_they_say(model):
    batch = batch_of(0, 1, 2)
    targets = nn.utils.rnn.pad_sequence([torch.tensor(model.encode(t)) for t in TEXTS], True, IGNORED)
    tokens = (targets != IGNORED).sum(1)
    together = activations(model, batch.inputs, batch.lengths, targets)
    assert together.keys() == {site.name for site in model.sites}
    for number in range(3):
        one, target = batch_of(number), targets[number : number + 1, : tokens[number]]
        alone = activations(model, one.inputs, one.lengths, target)
        check_padded(model, number, batch.lengths, tokens, together, alone)
    # The network reads whole windows only; the valid steps are those that the convolutions compute from valid frames.
    sites = {site.name: site for site in model.sites}
    features, encoder = model._features(batch.inputs, batch.lengths), model.net.model.encoder
    frames = features["attention_mask"].sum(1)
    for number, count in enumerate(frames.tolist()):
        x = encoder.conv1(features["input_features"][number : number + 1, :, :count])
        behind = {"conv1": x.shape[-1], "conv2": encoder.conv2(x).shape[-1]}
        for name, steps in behind.items():
            assert model.valid_lengths(sites[f"net.model.encoder.{name}"], batch.lengths)[number] == steps
        for site in model.sites:
            if site.step == Step(0.02, "s"):
                assert model.valid_lengths(site, batch.lengths)[number] == behind["conv2"]
            elif site.step == TOKEN:
                assert model.valid_lengths(site, batch.lengths, tokens)[number] == tokens[number]
    with pytest.raises(ValueError, match="proj_out.*pass tokens="):
        model.valid_lengths(sites["net.proj_out"], batch.lengths)


def test_parts_of_sites(model):
    parts = {part: choose_sites(model.sites, part=part) for part in ("encoder", "decoder", "cross-attention")}
    assert sorted(site.name for part in parts.values() for site in part) == sorted(site.name for site in model.sites)
    assert all(site.name.startswith("net.model.encoder.") for site in parts["encoder"])
    assert [site.step.length for site in parts["encoder"]] == [0.01] + [0.02] * (len(parts["encoder"]) - 1)
    crossing = {"k_proj": Step(0.02, "s"), "v_proj": Step(0.02, "s"), "q_proj": TOKEN, "out_proj": TOKEN}
    assert {site.name: site.step for site in parts["cross-attention"]} == {
        f"net.model.decoder.layers.{n}.encoder_attn.{name}": step for n in (0, 1) for name, step in crossing.items()
    }
    assert {site.step for site in parts["decoder"]} == {TOKEN}
    assert not any("encoder" in site.name for site in parts["decoder"])


def test_logits_and_loss_equal_those_of_transformers(whisper, model):
    net, processor = bare(whisper)
    one = batch_of(0)
    inputs = processor.feature_extractor(one.inputs[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    labels = torch.tensor([model.encode(TEXTS[0])])
    with torch.inference_mode():
        expected = net(inputs.input_features, labels=labels)
        torch.testing.assert_close(model(one.inputs, one.lengths, labels), expected.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(seq2seq_loss(model, one), expected.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_generated_text_equals_that_of_transformers(whisper, task, beams):
    net, processor = bare(whisper)
    model = hf_speech_seq2seq(str(whisper), language="de", task=task, beams=beams).model
    batch = batch_of(0, 1, 2)
    waveforms = [a[:n].numpy() for a, n in zip(batch.inputs, batch.lengths, strict=True)]
    inputs = processor.feature_extractor(waveforms, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        tokens = net.generate(inputs.input_features, language="de", task=task, num_beams=beams)
        expected = [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]
        assert seq2seq_decode(model, batch) == expected


def test_targets_start_with_the_tokens_of_generation(model):
    tokens = model.processor.tokenizer.convert_ids_to_tokens(model.encode(" Ab "))
    assert tokens == ["<|de|>", "<|transcribe|>", "<|notimestamps|>", "A", "b", "<|endoftext|>"]
    features = model._features(batch_of(0).inputs, batch_of(0).lengths)["input_features"]
    known = model.net.generation_config
    begun = model.net._retrieve_init_tokens(features, 1, _written(known), model.net.config, 100, {})
    assert begun.tolist() == [[model.net.config.decoder_start_token_id, *model.prefix]]


def _written(known):
    known.language, known.task, known.return_timestamps = "german", "transcribe", False
    return known


def test_a_model_of_one_language(tmp_path):
    folder = save_whisper(tmp_path / "english", languages=(), tie_word_embeddings=False)
    model = hf_speech_seq2seq(str(folder)).model
    assert model.processor.tokenizer.convert_ids_to_tokens(model.encode("a")) == [
        "<|notimestamps|>", "a", "<|endoftext|>"
    ]  # fmt: skip
    with torch.inference_mode():
        assert len(seq2seq_decode(model, batch_of(0, 1))) == 2
    with pytest.raises(InputError, match="has only one language"):
        hf_speech_seq2seq(str(folder), language="en")
    assert model.head == model.layers[-1].name == "net.proj_out"
    own = [f"{m}.{p}" for layer in model.layers for m in layer.modules
           for p, _ in model.get_submodule(m).named_parameters(recurse=False)]  # fmt: skip
    assert sorted(own) == sorted(name for name, _ in model.named_parameters())


def test_every_parameter_is_in_one_layer_and_the_tied_one_counts_once(model):
    own = [f"{m}.{p}" for layer in model.layers for m in layer.modules
           for p, _ in model.get_submodule(m).named_parameters(recurse=False)]  # fmt: skip
    assert sorted(own) == sorted(name for name, _ in model.named_parameters())
    names = [layer.name.removeprefix("net.model.") for layer in model.layers]
    assert names == ["encoder.conv1", "encoder.conv2", "encoder.layers.0", "encoder.layers.1", "decoder.embed_tokens",
                     "decoder.layers.0", "decoder.layers.1"]  # fmt: skip
    kept = weights(model.net)
    assert "proj_out.weight" not in kept and "model.decoder.embed_tokens.weight" in kept
    assert len({tensor.data_ptr() for tensor in kept.values()}) == len(kept)


def test_encoder_and_decoder_layers_are_selected_by_globs(model):
    encoder, decoder = (choose_layers(model.layers, f"*.{part}.*") for part in ("encoder", "decoder"))
    assert [*encoder, *decoder] == model.layers
    assert all(name.startswith("net.model.decoder.") for name in layers(model, layers="*.decoder.*").names)
    assert set(head(model).names) == {
        "net.model.decoder.embed_tokens.weight",
        "net.model.decoder.embed_positions.weight",
    }
    fixed = {"net.model.encoder.embed_positions.weight"}  # sinusoids
    assert set(full(model).names) == {name for name, _ in model.named_parameters()} - fixed


def test_a_frozen_encoder_is_in_eval_mode_and_computes_no_gradient(whisper):
    model = hf_speech_seq2seq(str(whisper), language="en").model
    freeze_all_but(model, layers(model, layers="*.decoder.*").names)
    AdaptationModule(model, model.task, torch.optim.SGD).train()
    assert not any(module.training for module in model.net.model.encoder.modules())
    assert all(module.training for module in model.net.model.decoder.modules())
    seen = []
    model.net.model.encoder.register_forward_hook(lambda *parts: seen.append(parts[2].last_hidden_state))
    seq2seq_loss(model, batch_of(0, 1)).backward()
    assert not seen[0].requires_grad
    assert model.net.proj_out.weight.grad.abs().sum() > 0


def test_checkpointing_changes_no_gradient(whisper):
    gradients = []
    for wanted in (False, True):
        model = hf_speech_seq2seq(str(whisper), language="en", gradient_checkpointing=wanted).model
        freeze_all_but(model, layers(model, layers="*.decoder.*").names)
        AdaptationModule(model, model.task, torch.optim.SGD).train()
        seq2seq_loss(model, batch_of(0, 1)).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        assert any(getattr(m, "gradient_checkpointing", False) for m in model.modules()) == wanted
    assert gradients[0].keys() == gradients[1].keys()
    for name in gradients[0]:
        torch.testing.assert_close(*(g[name] for g in gradients), atol=1e-6, rtol=1e-4)


def test_punctuation_is_kept_or_removed(model, monkeypatch):
    monkeypatch.setattr(model.net, "generate", lambda *_, **__: [model.processor.tokenizer.encode("Ab, don't!")])
    one = batch_of(0)
    assert model.generate(one.inputs, one.lengths) == ["Ab, don't!"]
    model.set_generation(type(model.generation_options)(language="de", normalise=True))
    assert model.generate(one.inputs, one.lengths) == ["ab don't"]


def test_rejection_reasons(whisper, model):
    utterance = Utterance(Path("a.wav"), "ab")
    assert "longer than the 2 s" in model.rejection_reason(utterance, 32_001, False)
    assert model.rejection_reason(utterance, 32_000, True) is None
    assert "26 tokens, but the network writes at most 24" in model.rejection_reason(
        Utterance(Path("a.wav"), "a" * 22), 900, True
    )  # fmt: skip
    undecided = load_model(str(whisper)).model
    assert "set the option language" in undecided.rejection_reason(utterance, 900, True)
    assert undecided.rejection_reason(utterance, 900, False) is None


def test_errors(whisper, wav2vec2, tmp_path):
    for options, message in (
        ({"pretrained": str(whisper), "language": "fr"}, "language=fr is not a language of this model. It has de, en"),
        ({"pretrained": str(whisper), "task": "sing"}, "transcribe or translate"),
        ({"pretrained": str(whisper), "beams": 0}, "at least 1"),
        ({"pretrained": str(wav2vec2)}, "is of the family hf_ctc, not hf_speech_seq2seq"),
        ({}, "needs pretrained="),
    ):
        with pytest.raises(InputError, match=message):
            hf_speech_seq2seq(**options)
    model = load_model(str(whisper)).model
    with pytest.raises(InputError, match="Whisper has its own masking"):
        model.set_augment(nn.Dropout())
    with pytest.raises(InputError, match="no valid generation options"):
        model.with_header({**json.loads(json.dumps(model.header())), "generation": {"path": "/"}})
