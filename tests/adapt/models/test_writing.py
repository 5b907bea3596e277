"""Style is told apart from errors, in the same way before and after, and for every family."""

from dataclasses import replace

import numpy as np
import pytest
from small_hf import save_whisper

from adapt.data.manifest import Splits
from adapt.data.normalisers import Normaliser
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.evaluation.evaluate import evaluate
from adapt.models.checkpoint import load_model
from adapt.models.hf_speech_seq2seq import hf_speech_seq2seq
from adapt.models.task import dictation, in_language, recognition
from adapt.models.writing import choose_normaliser, normalising, same_words, writing

SAID = ["five", "it is fifteen", "i do not know", "hello there"]
WRITTEN = ["5.", "It's 15.", "I don't know!", "Hello chair"]


def utterances(texts, language=None):
    extra = {} if language is None else {"lang": language}
    return [Recording(np.zeros(16_000, np.float32), 16_000, text, extra=extra) for text in texts]


def test_errors_of_style_are_counted_by_kind():
    task = replace(dictation, normaliser=Normaliser("auto", "en"))
    found = writing(task, utterances(SAID), WRITTEN)
    assert found is not None and found.rules == ("english",) and found.words == 10
    assert (found.errors, found.without_punctuation, found.normalised) == (8, 6, 1)
    assert found.share == pytest.approx(7 / 8) and found.punctuation_share == 2 / 8
    assert found.rates == dictation.score(utterances(SAID), WRITTEN).values()
    assert task.score(utterances(SAID), WRITTEN).values()["wer"] == pytest.approx(1 / 10)
    assert writing(dictation, utterances(SAID), WRITTEN) is None


def test_rules_are_those_of_each_example():
    task = replace(dictation, normaliser=Normaliser("auto"))
    examples = [*utterances(["five"], "en"), *utterances(["five"], "de")]
    assert task.comparable(examples, ["5", "5"]) == ["5", "5"]
    assert task.score(examples, ["5.", "5."]).values()["wer"] == 0.5


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return load_model(str(save_whisper(tmp_path_factory.mktemp("w") / "w", languages=(), texts=("a, b. 12?",))))


def test_auto_depends_on_the_model_and_the_references_only(whisper, base):
    """So it is the same for a model before and after training."""
    letters = load_model(str(base)).model
    plain, styled = utterances(["ab", "ba"]), utterances(["ab", "Ab, 2!"])
    assert choose_normaliser(letters, plain) is None
    assert choose_normaliser(letters, styled) == Normaliser("auto")
    assert choose_normaliser(whisper.model, plain) == Normaliser("auto", "en")  # an English-only Whisper
    assert choose_normaliser(whisper.model, plain, "none") is None
    assert choose_normaliser(letters, plain, "english") == Normaliser("english")
    with pytest.raises(InputError, match="normalise must be one of|normalise="):
        choose_normaliser(letters, plain, "loud")


def test_a_translating_whisper_writes_english(tmp_path):
    loaded = hf_speech_seq2seq(str(save_whisper(tmp_path / "w", texts=("a, b. 12?",))), task="translate", language="de")
    assert choose_normaliser(loaded.model, utterances(["a"], "de")) == Normaliser("english", "de")


def test_the_task_is_restored(whisper, base):
    letters, examples = load_model(str(base)).model, utterances(["a"])
    before = whisper.model.task
    with pytest.raises(ZeroDivisionError), normalising([letters, whisper.model], examples):
        assert letters.task.normaliser == whisper.model.task.normaliser == Normaliser("auto", "en")
        raise ZeroDivisionError
    assert whisper.model.task is before and "task" not in vars(letters)


def test_evaluate_has_both_rates(whisper, monkeypatch):
    """The rate without style is the main one, and the one as written stands beside it."""
    answers = dict(zip(SAID, WRITTEN, strict=True))
    decode = replace(whisper.model.task, decode=lambda _, batch: [answers[one.text] for one in batch.examples])
    monkeypatch.setattr(whisper.model, "task", decode)
    found = evaluate(whisper, Splits(test=tuple(utterances(SAID)))).sets["target"]
    assert found["wer"] == pytest.approx(0.1) and found["as_written"]["wer"] == pytest.approx(0.8)
    assert found["as_written"]["normaliser"] == ["english"]
    raw = evaluate(whisper, Splits(test=tuple(utterances(SAID))), normalise="none").sets["target"]
    assert raw["wer"] == pytest.approx(0.8) and "as_written" not in raw


def test_only_style_is_nothing_to_correct(whisper):
    (example,) = utterances(["It is 5 o'clock."])
    assert same_words(whisper.model, example, "it's five o'clock")
    assert not same_words(whisper.model, example, "it's nine o'clock")
    assert not same_words(whisper.model, example, "it's five o'clock", "none")


def test_without_spaces_the_character_error_rate_comes_first():
    task = in_language(recognition, "zh")
    scores = task.score(utterances(["\u4f60\u597d\u5417"]), ["\u4f60\u4e0d\u597d\u5417"])
    assert [metric.key for metric in scores.metrics] == [metric.key for metric in task.metrics] == ["cer", "wer"]
    assert scores.values() == {"cer": pytest.approx(1 / 3), "wer": pytest.approx(1 / 3)}
    assert scores.as_dict()["insertions"] == pytest.approx(1 / 3)
    assert [metric.key for metric in in_language(recognition, "de").metrics] == ["wer", "cer"]
