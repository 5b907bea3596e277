"""Channels are averaged, except where they cancel each other out."""

import numpy as np
import pytest
import soundfile
import torch

from adapt.data.audio import AudioReader, read_audio
from adapt.data.channels import mix
from adapt.data.manifest import Utterance
from adapt.data.splits import check_examples
from tests.av_files import chirp, encode

RATE = 16_000


@pytest.fixture
def voices():
    """Two speakers who take turns."""
    voice = chirp(1.0, RATE)
    first = np.arange(RATE) < RATE // 2
    return voice * first, voice[::-1] * ~first


def mixed(*channels):
    return mix(lambda: [np.stack(channels, 1).astype(np.float32)])


def test_channels_in_antiphase_give_the_louder_one(voices):
    left = chirp(1.0, RATE)
    for right, channel in ((-left, 0), (-0.8 * left, 0), (-1.2 * left, 1), (-0.5 * left, 0)):
        audio, number = mixed(left, right)
        assert number == channel
        np.testing.assert_array_equal(audio, (left, right.astype(np.float32))[channel])
    noise = np.random.default_rng(0).normal(0, 0.01, RATE)
    assert mixed(left, noise - left)[1] is not None
    music = 0.3 * np.sqrt(np.mean(left**2)) * np.random.default_rng(1).normal(size=RATE)
    assert mixed(music + left, music - left)[1] is not None  # the voice cancels, the music behind it does not
    assert mixed(left + 0.2, 0.2 - left)[1] == 0  # a constant offset in both is not the mean's power


def test_everything_else_is_the_mean(voices):
    left = chirp(1.0, RATE)
    silent = np.zeros(RATE)
    for channels in (voices, (left, left), (left, silent), (silent, left), (silent, silent), (left, -0.4 * left),
                     (left, *[silent] * 31), (left,), (*voices, silent, silent)):  # fmt: skip
        block = np.stack(channels, 1).astype(np.float32)
        audio, number = mix(lambda block=block: [block[:5000], block[5000:]])
        assert number is None
        np.testing.assert_array_equal(audio, block.mean(axis=1))  # bit for bit
    assert mix(lambda: [])[0].shape == (0,)


@pytest.mark.parametrize("suffix", ["wav", "flac", "m4a"])
def test_antiphase_in_files_of_all_readers(tmp_path, caplog, suffix):
    voice, path = chirp(1.0, RATE), tmp_path / f"a.{suffix}"
    if suffix == "m4a":
        encode(path, "alac", "ipod", np.stack([voice, -voice]), RATE)
    else:
        soundfile.write(path, np.stack([voice, -voice], 1), RATE)
    for _ in range(3):
        audio = read_audio(Utterance(path, ""), RATE)
        torch.testing.assert_close(audio, torch.from_numpy(voice), atol=1e-4, rtol=0)
    assert caplog.messages == [
        f"'{path}': the channels cancel each other out (antiphase), so the loudest one is read instead of their mean."
    ]


def test_many_files_in_antiphase_are_counted_in_one_message(tmp_path, caplog):
    class Anything:
        reader, reads_audio = AudioReader(RATE), True

        def rejection_reason(self, example, length, training):
            return None

    voice = chirp(0.2, RATE)
    examples = [Utterance(tmp_path / f"{number}.wav", "") for number in range(5)]
    for example in examples:
        soundfile.write(example.audio_filepath, np.stack([voice, -voice], 1), RATE)
    check_examples(examples, Anything(), training=False)
    (message,) = caplog.messages
    assert message.startswith(f"'{tmp_path / '0.wav'}' (and 4 more files): the channels cancel each other out")
