import io

import numpy as np
import pytest
import soundfile
import torch

from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.studio import recordings
from adapt.studio.recordings import BANDS, HOP, Items, samples_of, spectrogram, wav


def tone(hertz=1000.0, seconds=1.0, rate=16_000):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32) / 2


@pytest.fixture
def items(tmp_path):
    return Items(
        {"data": [Recording(tone(), 16_000, "one tone"), Pair("Es ist kalt.", "It is cold.")]}, tmp_path / "added"
    )


def test_items_have_ids_and_say_what_they_are(items):
    first, second = items
    assert (first.id, second.id) == ("e1", "e2") and len(items) == 2
    assert first.as_dict()["reference"] == "one tone" and second.as_dict()["kind"] == "text"
    with pytest.raises(InputError, match="no such recording"):
        items.get("../../etc/passwd")


def test_what_is_added_is_a_private_file_that_survives(items, tmp_path):
    data = wav(tone(440), 16_000)
    item = items.add_audio(data)
    path = item.example.audio_filepath
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert items.add_audio(data) is item  # the same recording again
    again = Items({}, tmp_path / "added")
    (kept,) = again
    assert kept.set == "added" and np.allclose(samples_of(kept.example)[0], tone(440), atol=1e-4)
    again.remove(kept.id)
    assert not path.exists() and len(again) == 0
    with pytest.raises(InputError, match="from your data"):
        items.remove("e1")


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF"])
def test_formats_that_commands_read_are_read_here_too(items, format):
    file = io.BytesIO()
    soundfile.write(file, tone(), 16_000, format=format)
    assert abs(len(samples_of(items.add_audio(file.getvalue()).example)[0]) - 16_000) < 2000


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"RIFF", b"\x80\x04pickle", b"<html>", wav(tone(), 16_000)[:2000], b"RIFF\0\0\0\0WAVE" + b"x" * 90],
)
def test_what_is_no_whole_recording_is_refused_and_leaves_nothing(items, data, tmp_path):
    with pytest.raises(InputError) as error:
        items.add_audio(data)
    assert str(tmp_path) not in str(error.value) and len(items) == 2
    assert not list((tmp_path / "added").glob("*")) or not (tmp_path / "added").exists()


def test_long_recordings_and_texts_are_refused(items, monkeypatch):
    monkeypatch.setattr(recordings, "MAX_SECONDS", 0.5)
    with pytest.raises(InputError, match="at most"):
        items.add_audio(wav(tone(), 16_000))
    for text in ("", "   ", "x" * 10_001):
        with pytest.raises(InputError, match="1 to 10,000 characters"):
            items.add_text(text)
    assert items.add_text(" Es  ist\nkalt. ").name == "Es ist kalt."


def test_a_spectrogram_shows_a_tone_in_its_band_and_silence_as_nothing():
    samples = np.concatenate([tone(500), np.zeros(16_000, np.float32), tone(4000)])
    picture = spectrogram(samples, 16_000)
    assert picture.shape == (BANDS, round(3 / HOP) + 1) and picture.dtype == torch.uint8
    low, silent, high = (picture[:, at].float() for at in (50, 150, 250))
    assert low.argmax() < high.argmax() and silent.max() == 0 and low.max() > 240
    for rate in (8_000, 44_100, 192_000):
        assert spectrogram(tone(500, 0.3, rate), rate).shape[1] == pytest.approx(31, abs=1)


def test_wav_keeps_the_samples_and_clips():
    read, rate = soundfile.read(io.BytesIO(wav(np.array([0.5, -0.5, 2.0, -2.0], np.float32), 8_000)))
    assert rate == 8_000 and np.allclose(read, [0.5, -0.5, 1, -1], atol=1e-4)
