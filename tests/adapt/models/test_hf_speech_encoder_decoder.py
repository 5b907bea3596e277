"""Speech encoder-decoders other than Whisper: results equal those of transformers, and padding changes nothing."""

import copy
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from site_checks import activations, check_alone, check_padded
from small_hf import save_moonshine, save_speech2text, save_speech_encoder_decoder
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
from interventions.capture import capture
from interventions.freeze import freeze_all_but
from interventions.sites import TOKEN, Step

SAMPLES = (9000, 5000, 7123)
TEXTS = ("ab cad", "eb", "dad add")
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
ADAPTER = {"add_adapter": True, "num_adapter_layers": 2, "output_hidden_size": 24, "layerdrop": 0.5}
UNTIED = "unispeech, trocr, untied"
KINDS = {
    "speech2text": save_speech2text,
    "moonshine": save_moonshine,
    "wav2vec2, bart": save_speech_encoder_decoder,
    "wav2vec2, layer norm, bert": partial(save_speech_encoder_decoder, decoder="Bert", **LAYER_NORM),
    "hubert, roberta": partial(save_speech_encoder_decoder, encoder="Hubert", decoder="Roberta"),
    "wavlm, mbart": partial(save_speech_encoder_decoder, encoder="WavLM", decoder="MBart"),
    "adapter, marian": partial(save_speech_encoder_decoder, decoder="Marian", **ADAPTER),
    UNTIED: partial(
        save_speech_encoder_decoder, encoder="UniSpeech", decoder="TrOCR", decoding={"tie_word_embeddings": False}
    ),
}
THREE = ("speech2text", "moonshine", "wav2vec2, bart")
ENCODER_STEP = {"speech2text": 0.04, "moonshine": 0.024, "adapter, marian": 0.04}  # seconds; 0.01 for the others


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            made[name] = KINDS[name](tmp_path_factory.mktemp("seq2seq") / "model")
        return made[name]

    return folder


@pytest.fixture(scope="module")
def mustc(tmp_path_factory):
    return save_speech2text(tmp_path_factory.mktemp("seq2seq") / "mustc", languages=True)


@pytest.fixture(params=KINDS)
def name(request):
    return request.param


@pytest.fixture
def model(folders, name):
    return load_model(str(folders(name))).model


def batch_of(*numbers):
    draw = torch.Generator().manual_seed(0)
    audio = [0.3 * torch.randn(samples, generator=draw) + 0.1 for samples in SAMPLES]
    return collate([(Utterance(Path(f"{n}.wav"), TEXTS[n]), audio[n]) for n in numbers])


def targets_of(model, *numbers):
    return nn.utils.rnn.pad_sequence([torch.tensor(model.encode(TEXTS[n])) for n in numbers], True, IGNORED)


def bare(folder):
    """The network, its tokenizer, and its inputs for the first utterance, as in the documentation of transformers."""
    from transformers import AutoFeatureExtractor, AutoModelForSpeechSeq2Seq, AutoTokenizer

    net = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
    one = batch_of(0).inputs[0].numpy()
    inputs = AutoFeatureExtractor.from_pretrained(folder)(one, sampling_rate=16_000, return_tensors="pt")
    return net, AutoTokenizer.from_pretrained(folder), dict(inputs)


def test_padding_changes_nothing(model):
    batch, targets = batch_of(0, 1, 2), targets_of(model, 0, 1, 2)
    with torch.inference_mode():
        together, texts = model(batch.inputs, batch.lengths, targets), seq2seq_decode(model, batch)
        for number in range(3):
            one, target = batch_of(number), targets_of(model, number)
            alone = model(one.inputs, one.lengths, target)
            own = together[number : number + 1, : target.shape[1]]
            torch.testing.assert_close(own, alone, atol=1e-5 * float(alone.abs().max()), rtol=1e-5)
            assert seq2seq_decode(model, one) == [texts[number]]
        # The logits depend on the audio: another utterance has others.
        other = model(batch_of(1).inputs, batch_of(1).lengths, targets_of(model, 0))
        assert float((together[:1, : other.shape[1]] - other).abs().max()) > 0.01


@pytest.mark.parametrize("beams", [1, 3])
def test_logits_loss_and_text_equal_those_of_transformers(folders, name, beams):
    net, tokenizer, inputs = bare(folders(name))
    if net.config.pad_token_id is None:  # Moonshine cannot compute a loss without one
        net.config.pad_token_id = net.config.eos_token_id
    model = hf_speech_seq2seq(str(folders(name)), beams=beams).model
    one = batch_of(0)
    labels = tokenizer(TEXTS[0], return_tensors="pt").input_ids
    if labels[0, 0] == net.config.decoder_start_token_id:  # the decoder already starts with it
        labels = labels[:, 1:]
    assert model.encode(TEXTS[0]) == labels[0].tolist()
    with torch.inference_mode():
        expected = net(**inputs, labels=labels)
        torch.testing.assert_close(model(one.inputs, one.lengths, labels), expected.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(seq2seq_loss(model, one), expected.loss, atol=1e-5, rtol=1e-5)
        written = net.generate(**inputs, num_beams=beams)
        assert seq2seq_decode(model, one) == [tokenizer.decode(written[0], skip_special_tokens=True).strip()]


def test_sites_have_the_steps_they_say(model, name):
    alone = []
    for number in range(3):
        one, target = batch_of(number), targets_of(model, number)
        tokens = torch.tensor([target.shape[1]])
        alone.append(check_alone(model, one.lengths, tokens, one.inputs, one.lengths, target))
    batch, targets = batch_of(0, 1, 2), targets_of(model, 0, 1, 2)
    tokens = (targets != IGNORED).sum(1)
    together = activations(model, batch.inputs, batch.lengths, targets)
    for number in range(3):
        check_padded(model, number, batch.lengths, tokens, together, alone[number])
    heard = Step(ENCODER_STEP.get(name, 0.01), "s")
    parts = {part: [site for site in model.sites if site.part == part]
             for part in ("encoder", "cross-attention", "decoder")}  # fmt: skip
    assert model.sites[: len(parts["encoder"])] == parts["encoder"]
    assert all(site.step.unit == "s" for site in parts["encoder"]) and parts["encoder"][-1].step == heard
    crossing = {site.name.rpartition(".")[2]: site.step for site in parts["cross-attention"]}
    keys = ["key", "value"] if "query" in crossing else ["k_proj", "v_proj"]
    assert len(crossing) == 4 and len(parts["cross-attention"]) == 8
    assert {kind for kind, step in crossing.items() if step == heard} == {*keys}
    assert {step for kind, step in crossing.items() if kind not in keys} == {TOKEN}
    assert {site.step for site in parts["decoder"]} == {TOKEN} and model.sites[-1].name == model.output
    with pytest.raises(ValueError, match=rf"{model.output}.*pass tokens="):
        model.valid_lengths(model.sites[-1], batch.lengths)


def test_every_parameter_is_in_one_layer_and_a_tied_one_counts_once(model, name):
    own = [f"{m}.{p}" for layer in model.layers for m in layer.modules
           for p, _ in model.get_submodule(m).named_parameters(recurse=False)]  # fmt: skip
    assert sorted(own) == sorted(name for name, _ in model.named_parameters())
    kept = weights(model.net)
    assert len({tensor.data_ptr() for tensor in kept.values()}) == len(kept)
    assert f"{model.head}.weight" in head(model).names
    assert [layer.site for layer in model.layers if layer.name == model.head] == [
        "" if model.head == model.output else model.output
    ]
    kinds = {
        "speech2text": ["conv.conv_layers.0", "conv.conv_layers.1", "layers.0", "layers.1"],
        "moonshine": ["conv1", "conv2", "conv3", "layers.0", "layers.1"],
    }
    heard = ["feature_extractor.conv_layers.0", "feature_extractor.conv_layers.1", "feature_extractor.conv_layers.2",
             "feature_projection", "encoder.pos_conv_embed", "encoder.layers.0", "encoder.layers.1"]  # fmt: skip
    heard += ["adapter.layers.0", "adapter.layers.1"] if name == "adapter, marian" else []
    between = ["net.enc_to_dec_proj"] if name in ("wav2vec2, bart", "wavlm, mbart", UNTIED) else []
    last = {"wav2vec2, layer norm, bert": ["net.decoder.cls"], "hubert, roberta": ["net.decoder.lm_head"],
            UNTIED: ["net.decoder.output_projection"]}.get(name, [])  # fmt: skip
    assert [layer.name for layer in model.layers] == [
        *(f"{model.encoder.prefix}.{layer}" for layer in kinds.get(name, heard)), *between, model.embedding,
        *model.blocks, *last,
    ]  # fmt: skip


def test_what_never_trains(folders):
    model = load_model(str(folders("adapter, marian"))).model
    assert model.never_trained == {"net.decoder.model.decoder.embed_positions.weight"}  # sinusoids
    model.net.encoder.config.mask_time_prob = 0.0
    assert model.never_trained - {"net.decoder.model.decoder.embed_positions.weight"} == {
        "net.encoder.masked_spec_embed"
    }
    assert set(full(model).names) == {name for name, _ in model.named_parameters()} - model.never_trained
    assert not load_model(str(folders("speech2text"))).model.never_trained


@pytest.mark.parametrize("name", [*THREE, "wav2vec2, layer norm, bert", "adapter, marian"])
def test_a_frozen_encoder_is_in_eval_mode_and_computes_no_gradient(model):
    freeze_all_but(model, [*layers(model, layers=model.blocks).names, *head(model).names])
    AdaptationModule(model, model.task, torch.optim.SGD).train()
    encoder, decoder = (model.get_submodule(part) for part in (model.encoder.prefix, model.decoder))
    assert not any(module.training for module in encoder.modules())
    fixed = [model.get_submodule(name.rpartition(".")[0]) for name in model.never_trained]  # Marian's sinusoids
    assert all(module.training for module in decoder.modules() if not any(module is one for one in fixed))
    seen = []
    encoder.register_forward_hook(lambda *parts: seen.append(parts[2].last_hidden_state))
    seq2seq_loss(model, batch_of(0, 1)).backward()
    assert not seen[0].requires_grad
    assert model.get_submodule(model.output).weight.grad.abs().sum() > 0
    # Conversely, a part of the decoder.
    freeze_all_but(
        model, layers(model, layers=[layer.name for layer in model.layers if layer.name not in model.blocks[:1]]).names
    )
    model.train()
    resting = [module for module in decoder.modules() if not module.training]
    assert model.get_submodule(model.blocks[0]) in resting and model.get_submodule(model._stack) in resting
    assert model.get_submodule(model.blocks[1]).training and model.get_submodule(model.embedding).training


def test_a_frozen_feature_encoder_computes_no_gradient(folders):
    model = load_model(str(folders("wav2vec2, bart"))).model
    freeze_all_but(model, layers(model, layers="*.encoder.layers.*").names)
    model.train()
    seen = []
    model.net.encoder.feature_extractor.register_forward_hook(lambda *parts: seen.append(parts[2]))
    seq2seq_loss(model, batch_of(0)).backward()
    assert not seen[0].requires_grad


def test_audio_shorter_than_a_masked_span_trains(folders):
    model = load_model(str(folders("wav2vec2, bart"))).model.train()
    model.net.encoder.config.mask_time_length = 500
    seq2seq_loss(model, batch_of(0)).backward()
    assert model.net.encoder.training


def test_an_adapter_skips_no_convolution(folders):
    model = load_model(str(folders("adapter, marian"))).model
    model.net.encoder.config.layerdrop = 0.0  # of the transformer layers
    counted = []
    for site in model.sites:
        if ".adapter.layers." in site.name:
            model.get_submodule(site.name).register_forward_hook(lambda *_: counted.append(1))
    model.train()
    for _ in range(5):
        seq2seq_loss(model, batch_of(0, 1))
    assert len(counted) == 10


@pytest.mark.parametrize("name", [*THREE, "hubert, roberta"])
def test_checkpointing_changes_no_gradient(folders, name):
    gradients = []
    for wanted in (False, True):
        model = hf_speech_seq2seq(str(folders(name)), gradient_checkpointing=wanted).model
        freeze_all_but(model, layers(model, layers="last 5").names)
        AdaptationModule(model, model.task, torch.optim.SGD).train()
        torch.manual_seed(0)
        np.random.seed(0)
        seq2seq_loss(model, batch_of(0, 1)).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        assert any(getattr(m, "gradient_checkpointing", False) for m in model.modules()) == wanted
    assert gradients[0] and gradients[0].keys() == gradients[1].keys()
    for parameter in gradients[0]:
        torch.testing.assert_close(*(g[parameter] for g in gradients), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", THREE)
def test_a_batch_is_captured_at_once_and_a_copy_is_independent(model):
    # An encoder that ran on one utterance at a time would be called three times.
    batch, targets = batch_of(0, 1, 2), targets_of(model, 0, 1, 2)
    with torch.inference_mode(), capture(model, model.sites) as acts:
        model(batch.inputs, batch.lengths, targets)
    assert all(len(acts.calls(site)) == 1 and len(acts[site]) == 3 for site in model.sites)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        before = model(batch.inputs, batch.lengths, targets)
        for parameter in twin.parameters():
            parameter.mul_(1.5)
        assert not torch.allclose(twin(batch.inputs, batch.lengths, targets), before)
        assert torch.equal(model(batch.inputs, batch.lengths, targets), before)


def test_silence_is_no_error(folders):
    model = load_model(str(folders("speech2text"))).model
    with torch.inference_mode():
        assert model(*model.dummy(16_000, 3)).isfinite().all()


def test_a_model_of_several_languages(mustc):
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    told = hf_speech_seq2seq(str(mustc), language="de").model
    assert told.tokenizer.convert_ids_to_tokens(told.encode("ab"))[0] == "<lang:de>"
    one = batch_of(0)
    net, processor = AutoModelForSpeechSeq2Seq.from_pretrained(mustc).eval(), AutoProcessor.from_pretrained(mustc)
    inputs = processor(one.inputs[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        tokens = net.generate(**inputs, forced_bos_token_id=processor.tokenizer.lang_code_to_id["de"])
        assert tokens[0, 1] == told.prefix[0]
        assert seq2seq_decode(told, one) == [processor.decode(tokens[0], skip_special_tokens=True).strip()]
    undecided = load_model(str(mustc)).model
    assert "has several languages: set the option language" in undecided.rejection_reason(
        Utterance(Path("a.wav"), "ab"), 9000, False
    )
    with pytest.raises(InputError, match="language=xx is not a language of this model. It has de, es, fr"):
        hf_speech_seq2seq(str(mustc), language="xx")
    undecided.net.generation_config.forced_bos_token_id = told.prefix[0]  # the model's files may set the language
    undecided.set_generation(undecided.generation_options)
    assert undecided.encode("ab") == told.encode("ab")
    assert undecided.rejection_reason(Utterance(Path("a.wav"), "ab"), 9000, True) is None


def test_a_forced_first_token_is_trained(folders):
    model = load_model(str(folders("wav2vec2, bart"))).model
    model.net.generation_config.forced_bos_token_id = 4
    model.set_generation(model.generation_options)
    assert model.encode("a")[0] == 4


def test_punctuation_is_kept_or_removed(folders, monkeypatch):
    model = load_model(str(folders("wav2vec2, bart"))).model
    monkeypatch.setattr(model.tokenizer, "batch_decode", lambda *_, **__: [" Ab, don't! "])
    one = batch_of(0)
    assert model.generate(one.inputs, one.lengths) == ["Ab, don't!"]
    model.set_generation(type(model.generation_options)(normalise=True))
    assert model.generate(one.inputs, one.lengths) == ["ab don't"]


@pytest.mark.parametrize("name", THREE)
def test_rejection_reasons(model, name):
    needed = {"speech2text": 400, "moonshine": 127 + 64 * (6 + 3 * 2), "wav2vec2, bart": 10 + 5 * (7 + 3 * 8)}[name]
    utterance = Utterance(Path("a.wav"), "ab")
    assert "shorter than the" in model.rejection_reason(utterance, needed - 1, False)
    assert model.rejection_reason(utterance, needed, False) is None
    with torch.inference_mode():
        assert model(*model.dummy(needed, 2)).isfinite().all()
    long, strange = (Utterance(Path("a.wav"), text) for text in ("d" * 40, "aßb"))
    assert "tokens, but the network writes at most 24" in model.rejection_reason(long, 9000, True)
    assert (
        "the model has no tokens" in model.rejection_reason(strange, 9000, True)
        and model.rejection_reason(strange, 9000, False) is None
    )
    assert model.rejection_reason(utterance, 9000, True) is None
    with pytest.raises(InputError, match="reads 1 to 24 tokens, got 25"):
        model.dummy(9000, 25)


def test_roberta_numbers_positions_after_its_padding_index(folders):
    model = load_model(str(folders("hubert, roberta"))).model
    most = 24 - model.tokenizer.pad_token_id - 1
    assert model(*model.dummy(9000, most)).shape[1] == most
    with pytest.raises(InputError, match=f"reads 1 to {most} tokens"):
        model.dummy(9000, most + 1)


def test_errors(folders, tmp_path):
    for decoder, encoder, message in (
        ("GPT2", "Wav2Vec2", "a GPT2LMHeadModel is not supported. .* GPT-2 has no linear maps"),
        ("Electra", "Wav2Vec2", "either fully tied to its embedding or not tied"),
        ("Bart", "Data2VecAudio", "Expected an encoder that reads waveforms"),
    ):
        folder = save_speech_encoder_decoder(tmp_path / decoder, encoder, decoder)
        with pytest.raises(InputError, match=message):
            load_model(str(folder))
    plain = str(folders("wav2vec2, bart"))
    for options, message in (
        ({"language": "de"}, "language=de is not a language of this model. It has no languages"),
        ({"task": "translate"}, "task=translate is for Whisper"),
        ({"beams": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            hf_speech_seq2seq(plain, **options)
    model = load_model(plain).model
    with pytest.raises(InputError, match="features cannot be augmented"):
        model.set_augment(nn.Dropout())
    with pytest.raises(InputError, match="no valid generation options"):
        model.with_header({**json.loads(json.dumps(model.header())), "generation": {"path": "/"}})
    endless = shutil.copytree(plain, tmp_path / "endless")
    for file in ("generation_config.json", "config.json"):
        said = json.loads((endless / file).read_text())
        said.pop("eos_token_id", None)
        (endless / file).write_text(json.dumps(said))
    with pytest.raises(InputError, match="decoder_start_token_id and eos_token_id"):
        load_model(str(endless))
