"""The tokens of targets are those that a published Whisper writes; skipped where there is none."""

import json

import pytest
import torch
from real_whisper import digits, native_speech, whisper_tiny

from adapt.comparison.non_speech import measure_non_speech
from adapt.data.kinds import with_text
from adapt.data.loader import Loader, collate
from adapt.models.checkpoint import load_model
from adapt.models.hf_speech_seq2seq import hf_speech_seq2seq
from adapt.models.inference import decode_examples
from adapt.models.writing import normalising, same_words, writing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return hf_speech_seq2seq(str(whisper_tiny())).model


@pytest.fixture(scope="module")
def written(model):
    """The tokens of the model's own answers, without those around them, by utterance."""
    found = []
    for example in native_speech(8):
        batch = collate([(example, model.reader.read(example))])
        features = model._features(batch.inputs, batch.lengths)["input_features"]
        with torch.inference_mode():
            tokens = model.net.generate(features, **model.generation_arguments)[0].tolist()
            (text,) = model.generate(batch.inputs, batch.lengths)
        found.append((example, text, [unit for unit in tokens if unit < model.tokenizer.eos_token_id]))
    return found


def test_targets_are_the_tokens_that_it_writes(model, written):
    """A Whisper writes a rare name in other pieces than its tokenizer at times, but never starts with others."""
    same = 0
    for _, text, tokens in written:
        units = model.encode(text)
        own = [*model.prefix, *tokens, model.tokenizer.eos_token_id]
        assert units[: len(model.prefix) + 3] == own[: len(model.prefix) + 3]
        assert model.tokenizer.decode(units) == model.tokenizer.decode(own)
        assert text == text.strip() and text
        same += units == own
    assert same >= len(written) - 1


def test_its_own_answers_are_likely(model, written):
    """With the space, an answer costs a few nats; without it, the first word alone costs 9 more."""
    costs = []
    for example, text, tokens in written:
        batch = collate([(with_text(example, text), model.reader.read(example))])
        with torch.inference_mode():
            costs.append(float(model.task.loss(model, batch)) * (len(tokens) + len(model.prefix) + 1))
    assert sum(costs) / len(costs) < 5


def test_its_suppressed_characters_are_named(model):
    (example,) = native_speech(1)
    for text, named in (("it is [laughs] so", "'[', ']'"), ('he said "yes"', "'\"'"), ("see (a) b", "'('")):
        reason = model.rejection_reason(with_text(example, text), 16_000, training=True)
        assert named in reason and "can never write" in reason
    assert model.rejection_reason(with_text(example, "it's fine, isn't it?"), 16_000, training=True) is None


def test_a_folder_without_a_generation_config_has_the_same_loss(model, tmp_path):
    folder = whisper_tiny()
    for path in folder.iterdir():
        if path.name != "generation_config.json":
            (tmp_path / path.name).symlink_to(path)
    known = json.loads((folder / "generation_config.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    suppressed = {name: known[name] for name in ("suppress_tokens", "begin_suppress_tokens")}
    (tmp_path / "config.json").write_text(json.dumps({**config, **suppressed}))
    again = load_model(str(tmp_path)).model
    (example,) = native_speech(1)
    batch = collate([(example, model.reader.read(example))])
    with torch.inference_mode():
        assert float(again.task.loss(again, batch)) == float(model.task.loss(model, batch))
        assert again.generate(batch.inputs, batch.lengths) == model.generate(batch.inputs, batch.lengths)


def test_digits_are_no_errors_of_style(model):
    """Whisper writes "5." for "five"; of ten digits, that costs most of the errors as written."""
    examples = digits(10)
    texts = decode_examples(model, model.task, examples, Loader())
    with normalising([model], examples):
        found, plain = writing(model.task, examples, texts), model.task.score(examples, texts).values()["wer"]
    assert found is not None and found.rules == ("english",)
    assert found.errors >= found.without_punctuation >= found.normalised and found.share > 0.2
    assert plain == found.normalised / 10 < found.rates["wer"]
    for text, example in zip(texts, examples, strict=True):
        if text.strip(".!?, ").isdigit():
            digit = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine").index(example.text)
            assert same_words(model, example, text) == (text.strip(".!?, ") == str(digit))


def test_silence_is_heard(model):
    """This model is known to write "you" where nobody speaks."""
    found = measure_non_speech(model, (), Loader(), 2)
    assert found.words_per_minute > 0 and not any(found.loops) and len(found.texts) == 2
