"""A Whisper's targets have the tokens that it writes: the space, the language of each example, and the prompt."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_hf import save_speech2text, save_whisper

from adapt.corrections.outcome import Outcome, format_outcome
from adapt.data.kinds import from_row, to_row
from adapt.data.loader import Loader, collate
from adapt.data.manifest import Splits, Utterance
from adapt.data.recording import Recording
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.evaluation.evaluate import evaluate
from adapt.introspect.attribution.words import words_of_tokens
from adapt.models.checkpoint import load_model
from adapt.models.generation import FirstTokens
from adapt.models.hf_speech_seq2seq import hf_speech_seq2seq
from adapt.models.inference import decode_examples
from adapt.models.seq2seq import references, seq2seq_decode, seq2seq_loss
from adapt.models.whisper_prompt import language_code, starts_with_space

SENTENCES = ("the cat sat on the mat", "is it 5 o'clock, or 6?", "Hello there \u00e9t\u00e9.")


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    return save_whisper(tmp_path_factory.mktemp("hf") / "english", languages=(), texts=SENTENCES)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return save_whisper(tmp_path_factory.mktemp("hf") / "several", languages=("en", "de", "zh"), texts=SENTENCES)


def utterances(*languages):
    draw = torch.Generator().manual_seed(0)
    return [
        Recording((0.3 * torch.randn(6000 + 500 * n, generator=draw)).numpy(), 16_000, "the cat",
                  extra={} if language is None else {"lang": language}, where=f"m.jsonl:{n + 1}")
        for n, language in enumerate(languages)
    ]  # fmt: skip


def batch_of(model, *languages):
    return collate([(example, model.reader.read(example)) for example in utterances(*languages)])


@pytest.mark.parametrize("text", SENTENCES)
def test_a_target_starts_with_a_space(english, text):
    model = hf_speech_seq2seq(str(english)).model
    tokenizer, units = model.tokenizer, model.encode(text)
    assert units == [*model.prefix, *tokenizer.encode(f" {text}", add_special_tokens=False), tokenizer.eos_token_id]
    assert tokenizer.decode(units[len(model.prefix) : -1]) == f" {text}"
    assert model.encode(f" {text} ") == units and model.encode("") == [*model.prefix, tokenizer.eos_token_id]
    words = words_of_tokens(model, units)
    assert [word.text for word in words] == text.split()  # without the space, the prompt and the end
    assert words[0].steps[0] == len(model.prefix)


def test_languages_without_spaces(several):
    model = hf_speech_seq2seq(str(several), language="zh").model
    for text in ("\u4f60\u597d", "AI"):
        units = model.encode(text)[len(model.prefix) : -1]
        assert units == model.tokenizer.encode(text, add_special_tokens=False)
    spaced, plain = (model.encode("the", language)[len(model.prefix) :] for language in ("en", None))
    assert [model.tokenizer.decode(units[:-1]) for units in (spaced, plain)] == [" the", "the"] and spaced != plain
    assert starts_with_space("AI", None) and not starts_with_space("\u3042", None) and not starts_with_space("", "en")


def test_a_space_that_the_model_cannot_write_is_left_out(whisper):
    model = hf_speech_seq2seq(str(whisper), language="de").model
    assert model.tokenizer.convert_ids_to_tokens(model.encode("ab"))[3:] == ["a", "b", "<|endoftext|>"]


def test_each_example_has_its_language_in_training(several):
    model = hf_speech_seq2seq(str(several), language="en").model
    examples = utterances("de", None, "English", "zh-CN")
    targets = references(model, examples)
    names = model.tokenizer.convert_ids_to_tokens(targets[:, 0].tolist())
    assert names == ["<|de|>", "<|en|>", "<|en|>", "<|zh|>"]
    assert targets[0, :-1].tolist()[: len(model.prefix)] == [targets[0, 0], *model.prefix[1:]]
    alone = hf_speech_seq2seq(str(several), language="de").model
    with torch.no_grad():
        losses = [float(seq2seq_loss(model, batch_of(model, language))) for language in ("de", "en")]
        assert losses[0] != losses[1]
        assert float(seq2seq_loss(alone, batch_of(alone, None))) == losses[0]


@pytest.mark.parametrize("beams", [1, 2])
def test_a_batch_of_several_languages_equals_single_ones(several, beams):
    model = hf_speech_seq2seq(str(several), beams=beams).model
    languages = ("de", "en", None, "zh", "de")
    examples = utterances(*languages)
    with torch.inference_mode():
        together = seq2seq_decode(model, batch_of(model, *languages))
        for number, language in enumerate(languages):
            own = hf_speech_seq2seq(str(several), language=language, beams=beams).model
            one = collate([(replace(examples[number], extra={}), model.reader.read(examples[number]))])
            assert seq2seq_decode(own, one) == [together[number]]
    assert decode_examples(model, model.task, examples, Loader(batch_seconds=1)) == together


def test_evaluation_has_the_accuracy_of_language_detection(several):
    loaded = load_model(str(several))
    model, examples = loaded.model, utterances("de", "en", None, "zh", "English")
    batch = batch_of(model, "de", "en", None, "zh", "English")
    with torch.inference_mode():
        detected = model.detect_languages(batch.inputs, batch.lengths)
    assert {*detected} <= {"de", "en", "zh"}
    expected = [detected[number] == code for number, code in ((0, "de"), (1, "en"), (3, "zh"), (4, "en"))]
    found = evaluate(loaded, Splits(test=tuple(examples)), loader=Loader(batch_seconds=1)).sets["target"]
    assert found["language_accuracy"] == sum(expected) / 4
    assert "language_accuracy" not in evaluate(loaded, Splits(test=tuple(utterances(None)))).sets["target"]


def test_unknown_languages_are_named_with_their_line(several, english):
    model = hf_speech_seq2seq(str(several)).model
    with pytest.raises(InputError, match="m.jsonl:2: language=fr is not a language of this model. It has de, en, zh"):
        check_splits(Splits(test=tuple(utterances("de", "fr"))), model)
    # A language is only needed in training, and one in the data is enough.
    kept, skipped = check_splits(Splits(train=tuple(utterances("de", None))), model, "skip")
    assert len(kept.train) == 1 and "m.jsonl:2: the model is multilingual" in skipped[0]
    only = hf_speech_seq2seq(str(english)).model
    assert check_splits(Splits(test=tuple(utterances("en-US", None))), only)[1] == []
    with pytest.raises(InputError, match="m.jsonl:1: language=de is not possible: this model reads and writes English"):
        check_splits(Splits(test=tuple(utterances("de"))), only)


def test_languages_of_speech2text(tmp_path):
    model = load_model(str(save_speech2text(tmp_path / "st", languages=True))).model
    assert "set the option language" in model.rejection_reason(utterances(None)[0], 9000, False)
    assert "language=xx is not" in model.rejection_reason(utterances("xx")[0], 9000, False)
    codes = model.tokenizer.lang_code_to_id
    assert model.target(utterances("fr")[0])[0] == codes["fr"]
    batch, singles = batch_of(model, "fr", "de"), [batch_of(model, "fr", "de") for _ in range(2)]
    with torch.inference_mode():
        together = seq2seq_decode(model, batch)
        for number, (one, language) in enumerate(zip(singles, ("fr", "de"), strict=True)):
            alone = model.generate(one.inputs, one.lengths, [language] * 2)
            assert alone[number] == together[number]


def test_first_tokens_of_beams():
    process = FirstTokens([3, 1])
    scores = process(torch.zeros(4, 1, dtype=torch.long), torch.randn(4, 5))
    assert scores.argmax(1).tolist() == [3, 3, 1, 1]
    later = torch.randn(4, 5)
    assert process(torch.zeros(4, 2, dtype=torch.long), later) is later


def test_the_language_of_a_correction_is_stored():
    example = Utterance(Path("a.wav"), "ab", lang="de")
    assert from_row(to_row(example)).lang == "de"
    assert (
        "lang" not in to_row(replace(example, lang=None)) and from_row(to_row(replace(example, lang=None))).lang is None
    )


def without_generation_config(folder, new, **config):
    new.mkdir()
    for path in folder.iterdir():
        if path.name != "generation_config.json":
            (new / path.name).write_bytes(path.read_bytes())
    known = json.loads((new / "config.json").read_text())
    (new / "config.json").write_text(json.dumps({**known, **config}))
    return new


@pytest.mark.parametrize("kind", ["english", "several"])
def test_a_folder_without_a_generation_config(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    options = {"language": "de"} if kind == "several" else {}
    model = hf_speech_seq2seq(str(folder), **options).model
    known = model.net.generation_config
    forced = [known.no_timestamps_token_id]
    if kind == "several":
        forced = [known.lang_to_id["<|en|>"], known.task_to_id["transcribe"], *forced]
    old = without_generation_config(
        folder, tmp_path / "old", forced_decoder_ids=[[n, unit] for n, unit in enumerate(forced, start=1)],
        suppress_tokens=known.suppress_tokens, begin_suppress_tokens=known.begin_suppress_tokens, max_length=16,
    )  # fmt: skip
    again = hf_speech_seq2seq(str(old), **options).model
    assert again.prefix == model.prefix and again.multilingual == model.multilingual
    batch = batch_of(model, None, None)
    with torch.inference_mode():
        assert float(seq2seq_loss(again, batch)) == float(seq2seq_loss(model, batch))
        assert seq2seq_decode(again, batch) == seq2seq_decode(model, batch)
    again.save_files(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["no_timestamps_token_id"] == forced[-1]


def test_a_folder_that_does_not_tell_the_prompt(english, tmp_path):
    old = without_generation_config(english, tmp_path / "old")
    renamed = (old / "tokenizer.json").read_text().replace("<|notimestamps|>", "<|other|>")
    (old / "tokenizer.json").write_text(renamed)
    text = (old / "tokenizer_config.json").read_text().replace("<|notimestamps|>", "<|other|>")
    (old / "tokenizer_config.json").write_text(text)
    with pytest.raises(InputError, match="Copy generation_config.json"):
        hf_speech_seq2seq(str(old))


def test_language_codes(several):
    known = hf_speech_seq2seq(str(several)).model.net.generation_config
    assert [language_code(name, known) for name in ("de", "German", "DE-at", "zh_CN", "Chinese")] == [
        "de", "de", "de", "zh", "zh"
    ]  # fmt: skip


def test_changed_steps_of_a_decoder_are_positions():
    outcome = Outcome(1, "ab", "a", "ab", touched=2, steps=3)
    assert "2 of 3 frames" in format_outcome(outcome, Utterance(Path("a.wav"), "ab"), "utterance")
    assert "2 of 3 positions" in format_outcome(
        replace(outcome, unit="token"), Utterance(Path("a.wav"), "ab"), "utterance"
    )
