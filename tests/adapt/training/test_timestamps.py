"""Whisper's targets with timestamps: where they stand, who gets them, and who has none."""

from types import SimpleNamespace

import pytest

from adapt.api import load_model
from adapt.data.example import Phoneme
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.models.whisper_timestamps import timed_target, with_timestamps
from adapt.training.timestamps import set_timestamps, timestamp_share

NET = SimpleNamespace(generation_config=SimpleNamespace(no_timestamps_token_id=100))
TARGET = [7, 100, 1, 2, 3, 9]  # language, no timestamps, text, end


def test_a_target_begins_and_ends_with_the_times_of_its_audio():
    example = Utterance("a.wav", "abc")
    assert timed_target(NET, TARGET, example, 2.4) == [7, 101, 1, 2, 3, 101 + 120, 9]
    assert timed_target(NET, TARGET, example, 45.0)[-2] == 101 + 1500  # the last timestamp there is
    assert len(timed_target(NET, TARGET, example, 0.0)) == len(TARGET) + 1


def test_known_phonemes_say_when_speech_begins_also_at_another_speed():
    phonemes = (Phoneme("a", 0.5, 0.7), Phoneme("b", 0.7, 1.5))
    example = Utterance("a.wav", "abc", duration=2.0, phonemes=phonemes)
    assert timed_target(NET, TARGET, example, 2.0) == [7, 101 + 25, 1, 2, 3, 101 + 75, 9]
    assert timed_target(NET, TARGET, example, 1.0) == [7, 101 + 12, 1, 2, 3, 101 + 38, 9]  # twice as fast


def test_the_share_is_kept_and_always_the_same():
    examples = [Utterance("a.wav", f"text {number}") for number in range(1000)]
    drawn = [with_timestamps(example, 0.3) for example in examples]
    assert drawn == [with_timestamps(example, 0.3) for example in examples]
    assert 250 < sum(drawn) < 350
    assert not any(with_timestamps(example, 0.0) for example in examples)
    assert all(with_timestamps(example, 1.0) for example in examples)


def test_models_without_timestamps_say_so(whisper):
    model = load_model(whisper).model  # a small one, which has no output units for them
    assert timestamp_share(model, None) == 0.0 and timestamp_share(model, 0.0) == 0.0
    with pytest.raises(InputError, match=r"timestamps=0\.5: this model writes no timestamps"):
        timestamp_share(model, 0.5)
    with pytest.raises(InputError, match="timestamps must be"):
        timestamp_share(model, 1.5)


@pytest.mark.slow
def test_a_published_whisper_is_trained_on_both_kinds():
    from real_whisper import whisper_tiny

    model = load_model(whisper_tiny()).model
    assert timestamp_share(model, None) == 0.5
    recording = Recording([0.0] * 16_000, 16_000, "hello")
    plain = model.target(recording)
    set_timestamps(model, 1.0)
    timed = model.training_target(recording, 16_000)
    first = model.net.generation_config.no_timestamps_token_id + 1
    assert timed == [first, *plain[1:-1], first + 50, plain[-1]]
    assert model.target(recording) == plain  # what is evaluated and corrected stays without
    assert model.task.terms(model, recording) == len(timed)
    set_timestamps(model, 0.0)
    assert model.training_target(recording, 16_000) == plain
