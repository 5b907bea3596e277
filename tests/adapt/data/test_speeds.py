"""Speed perturbation draws no speed at which an utterance does not fit the model."""

import math

import numpy as np
import pytest
import soundfile

from adapt.data.loader import Loader, fitting_speeds
from adapt.data.manifest import Splits, Utterance
from adapt.data.recording import Recording
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.models.labels import Labels
from adapt.models.recipe import WAV2LETTER
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.training.prefix_cache import needed

RATE = 16_000
SAMPLES = RATE // 2
SPEEDS = WAV2LETTER.speeds


@pytest.fixture(scope="module")
def model():
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12), Labels.of(" ab"))


@pytest.fixture
def utterances(tmp_path, model):
    """A text with room to spare, and one that takes every step of its audio."""
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, SAMPLES), RATE)
    full = ("ab" * SAMPLES)[: model.output_length(SAMPLES)]
    return tuple(Utterance(tmp_path / "a.wav", text, where=f"m.jsonl:{n}") for n, text in enumerate(("ab", full), 1))


def checked(model, *examples, speeds=SPEEDS, split="train"):
    splits, problems = check_splits(Splits(**{split: examples}), model, speeds=speeds)
    assert problems == []
    return getattr(splits, split)


def test_what_does_not_fit_at_a_speed_is_named_and_not_drawn_at_it(model, utterances, caplog):
    roomy, full = checked(model, *utterances)
    assert roomy is utterances[0] and full.speeds == (0.88, 0.94, 1.0)
    steps, fewer = len(full.text), model.output_length(math.ceil(SAMPLES / 1.12))
    (message,) = caplog.messages
    assert message.startswith("1 of 2 examples of train do not fit the model at all speeds")
    assert f"m.jsonl:2: at speed 1.12, the text needs {steps} output steps, but 0.45 s of audio give {fewer}" in message


def test_every_batch_has_a_finite_loss(model, utterances):
    """Before, training died with "loss became inf"."""
    examples = checked(model, *utterances)
    drawn = set()
    for epoch in range(40):
        batches = Loader(speeds=SPEEDS).training(examples, model.reader)
        batches.batch_sampler.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue]
        for batch in batches:
            assert model.task.loss(model, batch).isfinite()
            drawn |= {(e.where, n) for e, n in zip(batch.examples, batch.lengths.tolist(), strict=True)}
    assert sorted(len([1 for where, _ in drawn if where == f"m.jsonl:{n}"]) for n in (1, 2)) == [3, 5]


def test_the_draw_is_the_same_again_and_unchanged_where_all_fit(model, utterances):
    examples = checked(model, *utterances)
    pairs = needed(examples, 20, SPEEDS, seed=3)
    assert pairs == needed(checked(model, *utterances), 20, SPEEDS, seed=3)
    assert {speed for number, speed in pairs if number == 1} == {0.88, 0.94, 1.0}
    assert [p for p in pairs if not p[0]] == [p for p in needed(utterances, 20, SPEEDS, seed=3) if not p[0]]


def test_only_training_examples_are_checked_at_speeds(model, utterances, caplog):
    assert checked(model, *utterances, split="validation") == utterances
    assert checked(model, *utterances, split="test") == utterances
    assert checked(model, *utterances, speeds=(1.0,)) == utterances
    assert caplog.messages == []
    assert checked(model, *utterances, split="source_train")[1].speeds == (0.88, 0.94, 1.0)


def test_audio_in_memory_is_checked_too(model, utterances):
    samples = np.random.default_rng(0).normal(0, 0.1, SAMPLES).astype(np.float32)
    (recording,) = checked(model, Recording(samples, RATE, utterances[1].text))
    assert recording.speeds == (0.88, 0.94, 1.0)


def test_an_utterance_that_fits_at_no_speed_is_a_problem(model, utterances):
    with pytest.raises(InputError, match=r"m.jsonl:2: at speed 1.2, the text needs .* It fits at speed 1: add 1.0"):
        check_splits(Splits(train=utterances), model, speeds=(1.1, 1.2))
    splits, problems = check_splits(Splits(train=utterances), model, "skip", (1.1, 1.2))
    assert splits.train == utterances[:1] and len(problems) == 1


def test_speeds_of_another_loader_fall_back_to_the_plain_one(model, utterances):
    _, full = checked(model, *utterances)
    assert fitting_speeds(full, (0.94, 1.12)) == (0.94,)
    assert fitting_speeds(full, (1.2, 1.3)) == (1.0,)


def test_whisper_hears_the_end_of_slow_speech(tmp_path):
    """Whisper reads windows of a fixed length (2 s here), and cut off what slower speech had beyond it."""
    from adapt.models.hf_speech_seq2seq import hf_speech_seq2seq
    from tests.small_hf import save_whisper

    loaded = hf_speech_seq2seq(str(save_whisper(tmp_path / "net")), language="en")
    samples = np.random.default_rng(0).normal(0, 0.1, round(1.9 * RATE)).astype(np.float32)
    (recording,) = checked(loaded.model, Recording(samples, RATE, "ab"))
    assert recording.speeds == (1.0, 1.06, 1.12)
    window = loaded.model.processor.feature_extractor.n_samples
    for speed in recording.speeds:
        assert len(loaded.model.reader.read(recording, speed)) <= window
    assert len(loaded.model.reader.read(recording, 0.94)) > window


@pytest.mark.parametrize("speeds", [[1e-9], [0.2], [5], [0], [-1.0], [float("nan")], ["fast"], []])
def test_speeds_out_of_range_are_refused(speeds):
    with pytest.raises(InputError, match=r"speeds must be numbers from 0.25 to 4.0"):
        Loader(speeds=speeds)


def test_the_length_at_a_speed_is_that_of_the_audio(model):
    for samples in (100, 4_321, SAMPLES):
        recording = Recording(np.full(samples, 0.1, np.float32), RATE)
        for speed in (*SPEEDS, 0.93, 0.937):
            assert model.reader.length_at(samples, speed) == len(model.reader.read(recording, speed))
