"""Names of control tokens in a user's text stay text or are named, and so is what a model can never write."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_hf import save_moonshine, save_speech2text, save_speech_encoder_decoder, save_whisper
from small_mt import FAMILIES, save_translation

from adapt.corrections.attempt import unwritable
from adapt.data.manifest import Splits, Utterance
from adapt.data.pairs import Pair
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.evaluation.evaluate import evaluate
from adapt.models.checkpoint import load_model
from adapt.models.hf_translation import hf_translation

CONTROL = ("<|endoftext|>", "</s>", "<unk>", "<pad>", "[UNK]", ">>deu<<", "<s>", "[SEP]", "<lang:de>")
CODES = {
    "m2m100": {"source_lang": "en", "target_lang": "de"},
    "nllb": {"source_lang": "eng_Latn", "target_lang": "deu_Latn"},
    "mbart": {"source_lang": "en_XX", "target_lang": "de_DE"},
    "mbart50": {"source_lang": "en_XX", "target_lang": "de_DE"},
}
SENTENCES = ("the cat sat on the mat", "is it 5 o'clock, or 6?", "he said <no> or [yes] (maybe) | never")


@pytest.fixture(scope="module", params=FAMILIES)
def translator(request, tmp_path_factory):
    folder = save_translation(tmp_path_factory.mktemp("mt") / request.param, request.param)
    return hf_translation(str(folder), **CODES.get(request.param, {})).model


@pytest.fixture(scope="module")
def whisper_bpe(tmp_path_factory):
    folder = save_whisper(tmp_path_factory.mktemp("hf") / "bpe", languages=(), texts=SENTENCES, max_target_positions=64)
    return load_model(str(folder)).model


@pytest.mark.parametrize("token", CONTROL)
def test_control_tokens_in_a_translation(translator, token):
    for text in (token, f"ab {token} ab", f"{token} ab", f"ab{token}"):
        framed = translator.encode("")
        units = [unit for unit in translator.encode(text) if unit not in framed]
        special = {*translator.tokenizer.all_special_ids} - {translator.tokenizer.unk_token_id}
        reason = translator.rejection_reason(Pair("ab", text, where="pairs.tsv:3"), 3, training=True)
        # The end token comes once, at the end, and nothing else of the text is a control token.
        assert translator.encode(text).count(translator.tokenizer.eos_token_id) == framed.count(
            translator.tokenizer.eos_token_id
        )
        assert not special & {*units}
        assert reason is not None and "can never write" in reason  # these tokenizers have no "<", "[" or "|"


def test_language_codes_in_a_source(tmp_path):
    folder = save_translation(tmp_path / "marian")
    model = hf_translation(str(folder)).model
    pair = Pair(">>deu<< bea", "bea")
    assert "starts with '>>deu<<'" in model.rejection_reason(pair, 5, training=False)
    assert model.rejection_reason(Pair("bea", "bea"), 5, training=False) is None
    prefixed = hf_translation(str(folder), prefix=">>deu<< ").model
    assert prefixed.rejection_reason(pair, 5, training=False) is None  # after the prefix it is text


@pytest.mark.parametrize(
    ("text", "named"), [("bea \u4e2d\u6587", "'\u4e2d', '\u6587'"), ("bea \U0001f600", "'\U0001f600'")]
)
def test_characters_without_tokens_are_named_with_their_line(marian, text, named):
    model = hf_translation(str(marian)).model
    splits = Splits(train=(Pair("bea", "bea"), Pair("ada", text, where="pairs.jsonl:2")))
    with pytest.raises(InputError, match=f"pairs.jsonl:2: the text contains {named}"):
        check_splits(splits, model)
    kept, skipped = check_splits(splits, model, "skip")
    assert len(kept.train) == 1 and len(skipped) == 1


def test_evaluation_counts_texts_that_cannot_be_written(marian, caplog):
    loaded = load_model(str(marian))
    examples = (Pair("bea", "bea"), Pair("ada", "\u4e2d\u6587", where="pairs.jsonl:2"))
    found = evaluate(loaded, Splits(test=examples)).sets["target"]
    assert found["unwritable"] == 1 and "pairs.jsonl:2, with '\u4e2d', '\u6587'" in caplog.text
    assert "unwritable" not in evaluate(loaded, Splits(test=examples[:1])).sets["target"]


@pytest.mark.parametrize("token", ["<|endoftext|>", "<|notimestamps|>", "<|startoftranscript|>", "<|0.00|>"])
def test_control_tokens_in_a_whisper_transcript(whisper_bpe, token):
    model, example = whisper_bpe, Utterance(Path("a.wav"), f"the cat {token} sat", where="m.jsonl:1")
    end = model.tokenizer.eos_token_id
    units = model.target(example)
    assert units.count(end) == 1 and units[-1] == end
    assert not {*units[len(model.prefix) : -1]} & model.special_units
    written = model.tokenizer.backend_tokenizer.decode(units[len(model.prefix) : -1], skip_special_tokens=False)
    assert written.strip() == example.text
    assert "'<'" in model.rejection_reason(example, 900, training=True)


def test_suppressed_characters_are_named(whisper_bpe):
    def reason(text):
        return whisper_bpe.rejection_reason(Utterance(Path("a.wav"), text), 900, training=True)

    assert reason("the cat sat") is None and reason("is it 5 o'clock, or 6?") is None
    assert "contains '[', ']', which" in reason("the [cat]")
    assert "contains '(', ')', which" in reason("sat (on) it")
    assert whisper_bpe.rejection_reason(Utterance(Path("a.wav"), "[cat]"), 900, training=False) is None
    # A correction to it is refused before anything is tried.
    assert "'['" in unwritable(whisper_bpe, Utterance(Path("a.wav"), "the [cat]"), 900)


@pytest.mark.parametrize("save", [save_speech2text, save_moonshine, save_speech_encoder_decoder])
def test_control_tokens_for_other_speech_models(save, tmp_path):
    model = load_model(str(save(tmp_path / "model"))).model
    for token in CONTROL:
        units = model.encode(f"ab {token} ab")
        assert units.count(model.end) == 1 and units[-1] == model.end
        special = {*model.tokenizer.all_special_ids} - {model.tokenizer.unk_token_id}
        assert not special & {*units[len(model.prefix) : -1]}
        example = replace(Utterance(Path("a.wav"), f"ab {token}"), where="m.jsonl:4")
        assert "can never write" in model.rejection_reason(example, 9000, training=True)


def test_units_beyond_the_output_layer_are_named(marian):
    model = hf_translation(str(marian)).model
    outputs = model.encode("bea")[0]
    head = model.get_submodule(model.output)
    head.weight = torch.nn.Parameter(head.weight[:outputs].detach())
    assert model.unwritable(Pair("bea", "bea")) != []
