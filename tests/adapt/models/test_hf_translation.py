"""Translation models of transformers: results equal those of transformers, and padding changes nothing."""

import json

import pytest
import torch
from site_checks import activations, check_padded
from small_mt import FAMILIES, save_translation
from torch import nn

from adapt.data.loader import Loader, collate
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model, load_transformers
from adapt.models.hf_translation import hf_translation
from adapt.models.model_files import save_model
from adapt.models.seq2seq import IGNORED, seq2seq_decode, seq2seq_loss
from adapt.models.state import model_fingerprint, weights
from adapt.training.module import AdaptationModule
from adapt.tuning.layers import full, head, layers
from interventions.freeze import freeze_all_but
from interventions.sites import TOKEN, choose_layers, choose_sites

PAIRS = [Pair("ada dab gab", "bea ebb"), Pair("cid", "ada had bid cid"), Pair("bea fed had bid", "dab")]
LANGUAGES = {"m2m100": ("en", "de"), "nllb": ("eng_Latn", "deu_Latn")} | dict.fromkeys(
    ("mbart", "mbart50"), ("en_XX", "de_DE")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = {}

    def save(family):
        if family not in made:
            made[family] = save_translation(tmp_path_factory.mktemp("mt") / family, family)
        return str(made[family])

    return save


def load(folder, family, **options):
    source, target = LANGUAGES.get(family, (None, None))
    return hf_translation(folder(family), source_lang=source, target_lang=target, **options).model


def batch_of(model, *numbers):
    return collate([(PAIRS[number], model.reader.read(PAIRS[number])) for number in numbers])


def targets_of(model, *numbers):
    tokens = [torch.tensor(model.encode(PAIRS[number].target)) for number in numbers]
    return nn.utils.rnn.pad_sequence(tokens, True, IGNORED)


def bare(folder, family):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    source, target = LANGUAGES.get(family, (None, None))
    known = {"src_lang": source, "tgt_lang": target} if source else {}
    tokenizer = AutoTokenizer.from_pretrained(folder(family), **known)
    return AutoModelForSeq2SeqLM.from_pretrained(folder(family)).eval(), tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_loss_equal_those_of_transformers(folder, family):
    model = load(folder, family)
    net, tokenizer = bare(folder, family)
    given = tokenizer([pair.source for pair in PAIRS], text_target=[pair.target for pair in PAIRS],
                      return_tensors="pt", padding=True)  # fmt: skip
    labels = given.labels.masked_fill(given.labels == tokenizer.pad_token_id, IGNORED)
    batch, targets = batch_of(model, 0, 1, 2), targets_of(model, 0, 1, 2)
    assert torch.equal(targets, labels)
    with torch.inference_mode():
        expected = net(input_ids=given.input_ids, attention_mask=given.attention_mask, labels=labels)
        torch.testing.assert_close(model(batch.inputs, batch.lengths, targets), expected.logits)
        torch.testing.assert_close(seq2seq_loss(model, batch), expected.loss)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_generated_text_equals_that_of_transformers(folder, family, beams):
    model = load(folder, family, beams=beams, max_tokens=12)
    net, tokenizer = bare(folder, family)
    given = tokenizer([pair.source for pair in PAIRS], return_tensors="pt", padding=True)
    start = {}
    if family in LANGUAGES:
        code = LANGUAGES[family][1]
        unit = tokenizer.get_lang_id(code) if family == "m2m100" else tokenizer.convert_tokens_to_ids(code)
        # As documented by transformers: mBART's decoder starts with the language token, the others write it first.
        start = {"decoder_start_token_id" if family == "mbart" else "forced_bos_token_id": unit}
    tokens = net.generate(**given, num_beams=beams, max_length=12, **start)
    expected = [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    assert seq2seq_decode(model, batch_of(model, 0, 1, 2)) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(folder, family):
    model = load(folder, family, max_tokens=10)
    batch, targets = batch_of(model, 0, 1, 2), targets_of(model, 0, 1, 2)
    tokens = (targets != IGNORED).sum(1)
    with torch.inference_mode():
        together, texts = model(batch.inputs, batch.lengths, targets), seq2seq_decode(model, batch)
        behind = batch.inputs.clone()
        for row, length in zip(behind, batch.lengths, strict=True):
            row[length:] = 5
        torch.testing.assert_close(model(behind, batch.lengths, targets), together)
        for number in range(3):
            one, own = batch_of(model, number), targets[number : number + 1, : tokens[number]]
            alone = model(one.inputs, one.lengths, own)
            scale = float(alone.abs().max())
            torch.testing.assert_close(
                together[number : number + 1, : tokens[number]], alone, atol=1e-5 * scale, rtol=1e-4
            )
            assert seq2seq_decode(model, one) == [texts[number]]


@pytest.mark.parametrize("family", ["marian", "separate", "nllb", "mbart", "t5"])
def test_sites_have_the_steps_they_say(folder, family):
    model = load(folder, family)
    batch, targets = batch_of(model, 0, 1, 2), targets_of(model, 0, 1, 2)
    tokens = (targets != IGNORED).sum(1)
    together = activations(model, batch.inputs, batch.lengths, targets)
    assert together.keys() == {site.name for site in model.sites}
    for number in range(3):
        one, own = batch_of(model, number), targets[number : number + 1, : tokens[number]]
        alone = activations(model, one.inputs, one.lengths, own)
        check_padded(model, number, batch.lengths, tokens, together, alone)
        for site in model.sites:
            assert alone[site.name].shape[1:] == (
                int(model.valid_lengths(site, one.lengths, tokens[number:][:1])),
                site.units,
            )
    assert {site.step for site in model.sites} == {TOKEN} and model.sites[-1].name == model.output
    with pytest.raises(ValueError, match="pass tokens="):
        model.valid_lengths(model.sites[-1], batch.lengths)


@pytest.mark.parametrize("family", ["marian", "t5"])
def test_parts_of_sites(folder, family):
    model = load(folder, family)
    parts = {part: choose_sites(model.sites, part=part) for part in ("encoder", "decoder", "cross-attention")}
    assert sorted(site.name for part in parts.values() for site in part) == sorted(site.name for site in model.sites)
    assert all(site.name.startswith(f"{model.encoder}.") for site in parts["encoder"])
    crossing = ".encoder_attn." if family == "marian" else ".EncDecAttention."
    assert len(parts["cross-attention"]) == 8 and all(crossing in site.name for site in parts["cross-attention"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_in_one_layer_and_the_head_is_one(folder, family):
    model = load(folder, family)
    own = [f"{m}.{p}" for layer in model.layers for m in layer.modules
           for p, _ in model.get_submodule(m).named_parameters(recurse=False)]  # fmt: skip
    assert sorted(own) == sorted(name for name, _ in model.named_parameters())
    assert model.head in [layer.name for layer in model.layers]
    weight = model.get_submodule(model.output).weight
    assert any(parameter is weight for parameter in (model.get_parameter(name) for name in head(model).names))
    assert len(model.vocabulary) == len(weight)
    encoder, decoder = (choose_layers(model.layers, f"*{part}.*.[0-9]") for part in ("encoder", "decoder"))
    assert len(encoder) == len(decoder) == 2


def test_marians_sinusoids_stay_fixed(folder):
    """Loading with transformers 5 makes them trainable, but their authors keep them fixed."""
    model = load(folder, "marian")
    positions = {f"net.model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder")}
    assert model.never_trained == positions and not positions & set(full(model).names)
    before = {name: model.get_parameter(name).clone() for name in positions}
    train(model, full(model).names, steps=2)
    assert all(torch.equal(model.get_parameter(name), old) for name, old in before.items())


def train(model, names, steps=3):
    freeze_all_but(model, names)
    module = AdaptationModule(model, model.task, lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1))
    module.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.01, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        seq2seq_loss(model, batch_of(model, 0, 1, 2)).backward()
        optimizer.step()


@pytest.mark.parametrize("family", ["marian", "separate", "t5"])
def test_a_tied_weight_trains_as_one_and_is_stored_once(folder, family, tmp_path):
    model = load(folder, family)
    base = load_model(folder(family))
    before = model.get_submodule(model.output).weight.detach().clone()
    train(model, head(model).names)
    assert not torch.equal(model.get_submodule(model.output).weight, before)
    embedding = model.get_submodule(model.decoder).embed_tokens.weight
    assert embedding is model.get_submodule(model.output).weight
    save_adaptation(tmp_path / "adaptation", base, model, trained=head(model).names)
    facts = json.loads((tmp_path / "adaptation" / "adaptation.json").read_text())
    assert facts["tensors"] == [name.removeprefix("net.") for name in head(model).names]
    again = load_model(str(tmp_path / "adaptation"))
    assert again.fingerprint == model_fingerprint(model)
    assert torch.equal(again.model.get_submodule(again.model.output).weight, model.get_submodule(model.output).weight)


def test_frozen_layers_are_in_eval_mode_and_need_no_gradient(folder):
    model = load(folder, "marian")
    freeze_all_but(model, layers(model, layers="*.decoder.layers.*").names)
    model.train()
    encoder, decoder = model.net.get_encoder(), model.net.get_decoder()
    assert not encoder.training and not any(layer.training for layer in encoder.layers)
    assert decoder.training and all(layer.training for layer in decoder.layers)
    seen = []
    handle = encoder.register_forward_hook(lambda *parts: seen.append(parts[2][0].requires_grad))
    seq2seq_loss(model, batch_of(model, 0)).backward()
    handle.remove()
    assert seen == [False] and decoder.layers[0].fc1.weight.grad.abs().sum() > 0


def test_layerdrop_is_off_if_a_stack_is_partly_frozen(tmp_path):
    path = save_translation(tmp_path / "model", "marian", encoder_layerdrop=0.5, decoder_layerdrop=0.5, dropout=0.0)
    model = load_model(str(path)).model
    batch = batch_of(model, 0, 1)
    freeze_all_but(model, layers(model, layers="*.decoder.layers.1").names)
    model.train()
    torch.manual_seed(0)
    assert len({round(seq2seq_loss(model, batch).item(), 4) for _ in range(4)}) == 1
    freeze_all_but(model, full(model).names)
    model.train()
    assert len({round(seq2seq_loss(model, batch).item(), 4) for _ in range(12)}) > 1


def test_checkpointed_gradients_are_equal(folder):
    gradients = []
    for checkpointing in (False, True):
        model = load(folder, "marian", gradient_checkpointing=checkpointing)
        freeze_all_but(model, full(model).names)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.train()
        model.net.config.dropout = 0.0
        for part in model.modules():
            if hasattr(part, "dropout") and isinstance(part.dropout, float):
                part.dropout = 0.0
        seq2seq_loss(model, batch_of(model, 0, 1)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) == len(full(model).names)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_batches_are_bounded_by_tokens_of_the_longer_side(folder):
    model = load(folder, "marian")
    pairs = [Pair("a" * (1 + number % 5), "b" * (1 + number % 7)) for number in range(40)]
    for loader in (
        Loader(batch_tokens=30).training(pairs, model.reader),
        Loader(batch_tokens=30).evaluation(pairs, model.reader),
    ):
        seen = []
        for batch in loader:
            longest = max(model.reader.length(pair) for pair in batch.examples)
            assert longest * len(batch.examples) <= 30 and batch.inputs.dtype == torch.long
            for row, length, pair in zip(batch.inputs, batch.lengths, batch.examples, strict=True):
                assert row[:length].tolist() == model.reader.source(pair) and not row[length:].any()
            seen += batch.examples
        assert sorted(pair.source for pair in seen) == sorted(pair.source for pair in pairs)


def test_speeds_do_not_change_text(folder):
    model = load(folder, "marian")
    slow, plain = (Loader(speeds=speeds).training(PAIRS, model.reader) for speeds in ([0.5, 2.0], [1.0]))
    assert [b.inputs.tolist() for b in slow] == [b.inputs.tolist() for b in plain]


def test_rejection_reasons_and_wrong_options(folder, tmp_path):
    path = save_translation(tmp_path / "short", "marian", max_position_embeddings=8)
    model = load_model(str(path)).model
    pair = Pair("ada dab gab ada dab", "bea")
    reason = model.rejection_reason(pair, len(model.reader.read(pair)), False)
    assert "the source has" in reason and "at most 8" in reason
    long = Pair("a", "bea ebb fed had bid")
    assert model.rejection_reason(long, 3, False) is None and "the target has" in model.rejection_reason(long, 3, True)
    with pytest.raises(InputError, match="max_tokens must be at most 8 for this network, got 9"):
        hf_translation(str(path), max_tokens=9)
    with pytest.raises(InputError, match="max_tokens must be at least 2, got 1"):
        hf_translation(str(path), max_tokens=1)
    with pytest.raises(InputError, match="reads 1 to 8 tokens, got 9"):
        model.dummy(3, 9)
    with pytest.raises(InputError, match="beams must be at least 1, got 0"):
        hf_translation(str(path), beams=0)
    with pytest.raises(InputError, match="no tokenizer 'words'"):
        hf_translation(str(path), tokenize="words")


def test_max_tokens_applies_also_if_the_files_set_max_new_tokens(tmp_path):
    path = save_translation(tmp_path / "model")
    known = json.loads((path / "generation_config.json").read_text())
    lengths = []
    for says in ({"max_length": 24}, {"max_length": None, "max_new_tokens": 23}):
        (path / "generation_config.json").write_text(json.dumps(known | says))
        for most in (None, 12):
            model = hf_translation(str(path), max_tokens=most).model
            lengths.append(len(model.encode(seq2seq_decode(model, batch_of(model, 0))[0])))
    full, short, full_new, short_new = lengths
    assert full == full_new and short < full and short_new in (short, short + 1)


def test_the_prefix_is_read_before_every_source(folder):
    plain, told = load(folder, "t5"), load(folder, "t5", prefix="cab: ")
    assert told.reader.source(Pair("ada")) == plain.reader.source(Pair("cab: ada")) != plain.reader.source(Pair("ada"))


@pytest.mark.parametrize("family", LANGUAGES)
def test_languages_must_be_known_and_given(folder, family):
    source, target = LANGUAGES[family]
    model = load_model(folder(family)).model
    assert "set source_lang" in model.rejection_reason(PAIRS[0], 3, False)
    with pytest.raises(InputError, match="Give both"):
        hf_translation(folder(family), source_lang=source)
    with pytest.raises(InputError, match="target_lang=klingon is not a language of the model's tokenizer"):
        hf_translation(folder(family), source_lang=source, target_lang="klingon")
    assert load(folder, family).rejection_reason(PAIRS[0], 3, True) is None


def test_a_model_of_one_direction_has_no_languages(folder):
    with pytest.raises(InputError, match="has no language codes"):
        hf_translation(folder("marian"), source_lang="en", target_lang="de")


def test_languages_are_saved_with_adaptations_and_models(folder, tmp_path):
    model = load(folder, "nllb", beams=2)
    base = load_model(folder("nllb"))
    train(model, head(model).names, steps=1)
    save_adaptation(tmp_path / "adaptation", base, model, trained=head(model).names)
    again = load_model(str(tmp_path / "adaptation")).model
    assert again.translation_options == model.translation_options and again.encode("bea") == model.encode("bea")
    save_model(tmp_path / "model" / "model.safetensors", model)
    saved = load_model(str(tmp_path / "model"))
    assert saved.model.translation_options == model.translation_options and saved.header["translation"]["beams"] == 2
    assert saved.fingerprint == model_fingerprint(model)


def test_speech_models_and_decoders_are_not_translation_models(whisper, folder, tmp_path):
    import transformers

    with pytest.raises(InputError, match="is of the family hf_speech_seq2seq, not hf_translation"):
        hf_translation(str(whisper))
    with pytest.raises(InputError, match="needs pretrained="):
        hf_translation()
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9))
    gpt.save_pretrained(tmp_path / "gpt")
    with pytest.raises(InputError, match="GPT2LMHeadModel. Expected .* a translation model"):
        load_transformers(str(tmp_path / "gpt"))


def test_a_folder_with_missing_weights_is_an_error(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    path = save_translation(tmp_path / "model", "marian")
    state = load_file(path / "model.safetensors")
    del state["model.decoder.layers.1.fc1.weight"]
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="has no weights for 'model.decoder.layers.1.fc1.weight'"):
        load_model(str(path))


def test_loading_twice_gives_the_same_bits(folder):
    one, two = (load_model(folder("marian")) for _ in range(2))
    assert one.fingerprint == two.fingerprint
    assert all(torch.equal(tensor, weights(two.model.net)[name]) for name, tensor in weights(one.model.net).items())


@pytest.mark.parametrize("family", LANGUAGES)
def test_a_pair_has_its_own_languages(folder, family):
    """A batch of several languages gives what the model gives with each language as its option."""
    source, target = LANGUAGES[family]
    sentence, answer = PAIRS[0].source, PAIRS[0].target
    forth, back = load(folder, family), hf_translation(folder(family), source_lang=target, target_lang=source).model
    own = [
        Pair(sentence, answer, extra={"source_lang": source, "target_lang": target}),
        Pair(sentence, answer, extra={"source_lang": target, "lang": source}),
        Pair(sentence, answer),
    ]
    mixed = collate([(pair, forth.reader.read(pair)) for pair in own])
    expected = {
        model: seq2seq_decode(model, collate([(own[2], model.reader.read(own[2]))]))[0] for model in (forth, back)
    }
    assert seq2seq_decode(forth, mixed) == [expected[forth], expected[back], expected[forth]]
    assert forth.target(own[0]) == forth.target(own[2]) != forth.target(own[1]) == back.target(own[2])
    assert mixed.inputs[0].tolist() == mixed.inputs[2].tolist() != mixed.inputs[1].tolist()
    with torch.no_grad():
        losses = [
            float(seq2seq_loss(model, collate([(one, model.reader.read(one))])))
            for model, one in ((forth, own[1]), (back, own[2]))
        ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_languages_of_pairs_are_checked(folder):
    model = hf_translation(folder("mbart")).model
    assert "keys of the line" in model.rejection_reason(PAIRS[0], 3, False)
    both = Pair("ada", "bea", extra={"source_lang": "en", "lang": "de"})
    assert model.rejection_reason(both, 3, True) is None
    assert model.target(both) == load(folder, "mbart").encode("bea")
    wrong = model.rejection_reason(Pair("ada", "bea", extra={"source_lang": "en_XX", "lang": "klingon"}), 3, False)
    assert wrong is not None and "target_lang=klingon is not a language" in wrong
