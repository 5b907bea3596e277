"""Audio of any format becomes mono samples at one rate, and unusable files raise InputError."""

import numpy as np
import pytest
import soundfile
import torch

from adapt.data import audio_file
from adapt.data.audio import AudioReader, read_audio
from adapt.data.manifest import Utterance
from adapt.data.resampling import resample
from adapt.errors import InputError

RATE = 16_000
SUFFIXES = ["wav", "flac", "ogg", "mp3"]


def tone(seconds=1.0, rate=RATE, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def save(path, samples, rate=RATE, **how):
    soundfile.write(path, samples, rate, **how)
    return path


def read(path, **facts):
    return read_audio(Utterance(path, "x", where="m.jsonl:7", **facts), RATE)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats(tmp_path, suffix):
    audio = read(save(tmp_path / f"a.{suffix}", tone()))
    assert audio.dtype == torch.float32 and audio.dim() == 1 and abs(len(audio) - RATE) <= RATE // 20
    middle = audio[4000:12000]
    spectrum = torch.fft.rfft(middle * torch.hann_window(len(middle))).abs()
    assert spectrum.argmax() * RATE / len(middle) == pytest.approx(440, abs=3)
    assert middle.abs().max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_lossless_formats_keep_every_sample(tmp_path, suffix):
    samples = np.round(tone() * 32768) / 32768
    assert torch.equal(read(save(tmp_path / f"a.{suffix}", samples)), torch.from_numpy(samples.astype(np.float32)))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_sample_rates(tmp_path, rate):
    audio = read(save(tmp_path / "a.wav", tone(1.0, rate), rate))
    assert abs(len(audio) - RATE) <= 1
    torch.testing.assert_close(audio[500:-500], torch.from_numpy(tone())[500 : len(audio) - 500], atol=0.01, rtol=0)


def test_channels_are_averaged(tmp_path):
    left, right = tone(), tone(hertz=1000)
    audio = read(save(tmp_path / "a.wav", np.stack([left, right], 1), subtype="FLOAT"))
    torch.testing.assert_close(audio, torch.from_numpy((left + right) / 2))


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_offset_and_duration_pick_a_part(tmp_path, rate):
    path = save(tmp_path / "a.wav", tone(2.0, rate), rate, subtype="FLOAT")
    whole = read(path)
    assert abs(len(read(path, duration=0.5)) - RATE // 2) <= 1
    part = read(path, offset=0.75, duration=0.5)
    torch.testing.assert_close(part[200:-200], whole[12_200 : 12_000 + len(part) - 200], atol=0.01, rtol=0)
    assert abs(len(read(path, offset=0.75)) - 20_000) <= 1


def test_parts_join_to_the_whole(tmp_path):
    path = save(tmp_path / "a.flac", tone(1.0))
    parts = [read(path, offset=n * 0.25, duration=0.25) for n in range(4)]
    assert torch.equal(torch.cat(parts), read(path))


def test_a_rounded_duration_is_forgiven_and_a_wrong_one_is_not(tmp_path):
    path = save(tmp_path / "a.wav", tone(1.0))
    assert len(read(path, duration=1.04)) == RATE
    for facts in ({"duration": 1.2}, {"offset": 1.0}, {"offset": 5.0}, {"offset": 0.5, "duration": 0.6}):
        with pytest.raises(InputError, match="m.jsonl:7.*lasts 1.00 s.*Correct 'offset' and 'duration'"):
            read(path, **facts)


@pytest.mark.parametrize("facts", [{"duration": float("inf")}, {"offset": float("inf")}])
def test_infinite_times_are_an_input_error(tmp_path, facts):
    with pytest.raises(InputError):
        read(save(tmp_path / "a.wav", tone(0.1)), **facts)


def test_a_missing_file_is_an_input_error(tmp_path):
    for path in (tmp_path / "missing.wav", tmp_path):
        with pytest.raises(InputError, match="m.jsonl:7: there is no audio file"):
            read(path)


@pytest.mark.parametrize("suffix", [*SUFFIXES, "raw", "txt"])
@pytest.mark.parametrize("content", [b"", b"no audio at all" * 100], ids=["nothing", "garbage"])
def test_a_file_that_is_no_audio_is_an_input_error(tmp_path, suffix, content):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"m.jsonl:7: .*a\.{suffix}"):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_file_is_an_input_error(tmp_path, suffix):
    """The library reads a truncated WAV or OGG as a shorter file, so only a duration in the manifest reveals it."""
    path = save(tmp_path / f"a.{suffix}", tone(2.0) + np.random.default_rng(0).normal(0, 0.1, 2 * RATE))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(InputError, match="m.jsonl:7"):
        read(path, duration=2.0)
    if suffix in ("flac", "mp3"):
        with pytest.raises(InputError, match="m.jsonl:7"):
            read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_an_input_error(tmp_path, value):
    samples = tone(0.2)
    samples[1234] = value
    path = save(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(InputError, match="m.jsonl:7.*not numbers"):
        read(path)
    assert len(read(path, duration=0.05)) == 800  # the samples before it are valid


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_without_samples_is_an_input_error(tmp_path, suffix):
    with pytest.raises(InputError, match="m.jsonl:7"):
        read(save(tmp_path / f"a.{suffix}", np.zeros(0)))


def test_a_part_of_no_length_is_empty(tmp_path):
    audio = read(save(tmp_path / "a.wav", tone(0.1)), duration=0)
    assert audio.shape == (0,)


def test_resampling_to_the_same_rate_is_the_identity():
    audio = torch.randn(100)
    assert resample(audio, RATE, RATE) is audio
    assert len(resample(audio, 8_000, RATE)) == 200


@pytest.mark.parametrize("rate", [1, 100, 999, 2_000_000, 10**9])
def test_rates_that_no_speech_has_are_refused(tmp_path, rate):
    with pytest.raises(InputError, match=rf"m.jsonl:7: .*sample rate of {rate:,} Hz. Expected 1,000 to 1,000,000 Hz"):
        read(save(tmp_path / "a.wav", tone()[:1000], rate))


def test_the_length_that_is_read_is_bounded(tmp_path):
    """Compressed silence holds hours in a few kilobytes; parts of it can be read."""
    path = save(tmp_path / "a.flac", np.zeros(2 * 3600 * 1000, np.int16), 1_000)
    assert path.stat().st_size < 60_000
    for facts in ({}, {"duration": 7200.0}):
        with pytest.raises(InputError, match="m.jsonl:7: .*lasts 7,200 s.* at most 3,600 s are read at once.*Split it"):
            read(path, **facts)
    assert len(read(path, offset=5000.0, duration=2.0)) == 2 * RATE
    utterance = Utterance(save(tmp_path / "b.wav", tone(0.5)), "x")
    assert len(AudioReader(RATE, max_seconds=0.5).read(utterance)) == RATE // 2
    with pytest.raises(InputError, match="at most 0 s are read"):
        AudioReader(RATE, max_seconds=0.4).read(utterance)


def test_a_high_rate_does_not_raise_the_bound_on_memory(tmp_path):
    path = save(tmp_path / "a.wav", tone(0.5, 96_000), 96_000)
    with pytest.raises(InputError, match="lasts 0 s"):  # half as many seconds as at 48 kHz
        read_audio(Utterance(path, "x"), RATE, max_seconds=0.9)
    assert len(read_audio(Utterance(path, "x"), RATE, max_seconds=1.1)) == RATE // 2


def test_a_long_file_is_read_in_blocks_of_the_same_samples(tmp_path, monkeypatch):
    samples = np.random.default_rng(0).normal(0, 0.1, (RATE, 2)).astype(np.float32)
    for suffix in SUFFIXES:
        path = save(tmp_path / f"a.{suffix}", samples)
        whole = read(path)
        monkeypatch.setattr(audio_file, "BLOCK", 1_000)
        torch.testing.assert_close(read(path), whole, atol=1e-6 if suffix == "mp3" else 0, rtol=0)  # mpg123 rounds anew
        monkeypatch.undo()


@pytest.mark.parametrize("channels", [2, 8, 32])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "DOUBLE"])
def test_channels_and_sample_formats(tmp_path, channels, subtype):
    samples = np.stack([tone(0.1)] * channels, 1)
    audio = read(save(tmp_path / "a.wav", samples, subtype=subtype))
    torch.testing.assert_close(audio, torch.from_numpy(tone(0.1)), atol=0.01, rtol=0)


def test_a_damaged_flac_says_how_much_can_be_read(tmp_path):
    path = save(tmp_path / "a.flac", tone(2.0) + np.random.default_rng(0).normal(0, 0.1, 2 * RATE))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 9000] = bytes(9000)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m.jsonl:7: .*is broken: only [01]\.\d\d s of the 2.00 s that its header"):
        read(path)


def test_the_length_of_an_unreadable_file_is_an_input_error(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no audio")
    for name in ("a.wav", "gone.wav"):
        with pytest.raises(InputError, match=rf"m.jsonl:7: .*{name}"):
            AudioReader(RATE).length(Utterance(tmp_path / name, "x", where="m.jsonl:7"))
