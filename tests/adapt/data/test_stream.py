"""Audio in blocks is the same as audio at once, whatever its rate, length and channels."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from adapt.data.audio import read_audio
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.data.stream import read_blocks, read_parts, resampled
from adapt.errors import InputError


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).normal(0, 0.1, 70 * 8_000).astype(np.float32)


def written(folder: Path, samples: np.ndarray, rate: int) -> Utterance:
    soundfile.write(folder / "a.wav", samples, rate, subtype="FLOAT")
    return Utterance(folder / "a.wav", "")


@pytest.mark.parametrize("rate", [8_000, 16_000, 11_025])
def test_blocks_are_the_whole(noise, tmp_path, rate):
    utterance = written(tmp_path, noise, rate)
    whole = read_audio(utterance, 16_000)
    blocks = torch.cat(list(read_blocks(utterance, 16_000)))
    assert len(blocks) == len(whole)
    assert float((blocks - whole).abs().max()) < 1e-5


def test_blocks_of_any_size_are_resampled_alike(noise):
    pieces = [torch.from_numpy(part) for part in np.array_split(noise, 57)]
    one, other = (torch.cat(list(resampled(iter(given), 8_000, 16_000))) for given in ([torch.tensor(noise)], pieces))
    assert torch.equal(one, other)


def test_parts_may_overlap(noise):
    recording = Recording(noise, 8_000)
    parts = list(read_parts(recording, 8_000, [(1.0, 3.0), (2.0, 40.0), (65.0, 80.0)]))
    assert [len(part) for part in parts] == [16_000, 304_000, 40_000]  # the last one ends with the recording
    assert torch.equal(parts[1], torch.from_numpy(noise[16_000:320_000]))


def test_antiphase_and_offset(noise, tmp_path):
    """The loudest channel is read where the mean would cancel; a part is read from its offset."""
    written(tmp_path, np.stack([noise, -noise], axis=1), 8_000)
    part = Utterance(tmp_path / "a.wav", "", duration=2.0, offset=1.0)
    assert torch.equal(torch.cat(list(read_blocks(part, 8_000))), torch.from_numpy(noise[8_000:24_000]))


def test_broken_files_are_named(noise, tmp_path):
    utterance = written(tmp_path, noise, 8_000)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a\.wav' is truncated"):
        list(read_blocks(utterance, 8_000))
    with pytest.raises(InputError, match=r"m:3: .*lasts 70\.00 s, and the utterance should run from 90"):
        written(tmp_path, noise, 8_000)
        list(read_blocks(Utterance(tmp_path / "a.wav", "", offset=90.0, where="m:3"), 8_000))
