"""Audio clips: which transcripts get one, and that the encoded audio matches the recording."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tone_speech import RATE

from adapt.comparison.recordings import MAX_SECONDS, MAX_TOTAL_SECONDS, encode_mp3, make_audio_clips
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.errors import InputError


@dataclass(frozen=True)
class Changed:
    """The fields of a transcript that `make_audio_clips` reads."""

    set: str
    improvement: int
    index: int


@pytest.mark.parametrize("rate", [RATE, 10_000])
def test_the_encoded_audio_has_the_frequency_and_level_of_the_samples(rate):
    samples = 0.4 * torch.sin(2 * torch.pi * 440 * torch.arange(2 * rate) / rate)
    file = encode_mp3(samples, rate)
    assert file == encode_mp3(samples, rate)
    heard, there = soundfile.read(io.BytesIO(file), dtype="float32")
    assert there == RATE and len(heard) / there == pytest.approx(2, abs=0.05)
    strength = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(strength) * there / len(heard) == pytest.approx(440, abs=1)
    assert np.abs(heard).max() == pytest.approx(0.4, abs=0.05)
    assert len(file) < 0.25 * 2 * 2 * RATE


def test_samples_beyond_full_scale_are_clipped():
    loud = 3 * torch.sin(torch.arange(RATE) / 20)
    assert encode_mp3(loud, RATE) == encode_mp3(loud.clamp(-1, 1), RATE)


@pytest.fixture
def spoken(tmp_path):
    def write(*seconds: float) -> list[Utterance]:
        found = []
        for number, length in enumerate(seconds):
            path = tmp_path / f"{number}.wav"
            soundfile.write(path, 0.1 * np.sin(np.arange(round(8000 * length)) / 9), 8000)
            found.append(Utterance(path, "a", duration=length))
        return found

    return write


def test_clips_alternate_between_sets_and_between_improved_and_worsened(spoken):
    sets = {"target": spoken(*[0.1] * 5), "source": spoken(*[0.1] * 5)}
    changed = [Changed("target", 3, 4), Changed("target", 2, 1), Changed("target", 1, 2), Changed("target", -2, 0),
               Changed("source", -3, 3), Changed("source", -1, 2)]  # fmt: skip
    taken = {most: list(make_audio_clips(changed, sets, 8000, most)) for most in (1, 3, 4, 5, 99)}
    assert taken == {1: [0], 3: [0, 3, 4], 4: [0, 1, 3, 4], 5: [0, 1, 3, 4, 5], 99: [0, 1, 2, 3, 4, 5]}
    assert make_audio_clips([], sets, 8000, 6) == {}


def test_a_clip_contains_only_its_segment_of_the_file(spoken):
    (whole,) = spoken(2.0)
    part = Utterance(whole.audio_filepath, "a", duration=0.5, offset=1.0)
    found = make_audio_clips([Changed("target", 1, 1)], {"target": [whole, part]}, 8000, 6)
    assert found[0].seconds == 0.5
    assert len(soundfile.read(io.BytesIO(found[0].mp3))[0]) == pytest.approx(4000, abs=400)


def test_long_recordings_are_skipped_and_the_total_is_limited(spoken):
    long, short = spoken(MAX_SECONDS + 1, 1.0)
    changed = [Changed("target", 3, 0), Changed("target", 2, 1)]
    assert list(make_audio_clips(changed, {"target": [long, short]}, 8000, 6)) == [1]
    many = [Changed("target", 1, 0)] * 30
    found = make_audio_clips(many, {"target": spoken(15.0)}, 8000, 100)
    assert len(found) == MAX_TOTAL_SECONDS / 15
    assert sum(len(own.mp3) for own in found.values()) * 4 / 3 < 2e6


def test_text_has_no_clips_and_a_missing_file_is_an_error():
    assert make_audio_clips([Changed("target", 1, 0)], {"target": [Pair("a", "b")]}, 8000, 6) == {}
    gone = Utterance(Path("gone.wav"), "a", duration=1.0)
    with pytest.raises(InputError, match="no audio file"):
        make_audio_clips([Changed("target", 1, 0)], {"target": [gone]}, 8000, 6)
