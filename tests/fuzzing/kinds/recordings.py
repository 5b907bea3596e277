"""Recordings in all containers, with damaged bytes, headers that lie, and samples that are not numbers."""

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from av_files import chirp, encode

from adapt.data.audio import AudioReader
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from fuzzing.damage import damage_bytes, damage_header
from fuzzing.frame import Case, Make, Wrong

_RATE = 16_000
_LIBSNDFILE = (
    ("wav", "WAV", "PCM_16"), ("wav", "WAV", "PCM_24"), ("wav", "WAV", "FLOAT"), ("wav", "WAV", "ULAW"),
    ("wav", "WAV", "IMA_ADPCM"), ("wav", "WAV", "MS_ADPCM"), ("rf64", "RF64", "PCM_16"), ("w64", "W64", "PCM_16"),
    ("aiff", "AIFF", "PCM_16"), ("au", "AU", "PCM_16"), ("caf", "CAF", "PCM_16"), ("voc", "VOC", "PCM_16"),
    ("sph", "NIST", "PCM_16"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"), ("flac", "FLAC", "PCM_16"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
)  # fmt: skip
_FFMPEG = (
    ("m4a", "aac", "ipod"), ("mp4", "alac", "mp4"), ("webm", "libopus", "webm"), ("wma", "wmav2", "asf"),
    ("aac", "aac", "adts"), ("avi", "libmp3lame", "avi"),
)  # fmt: skip


def prepare(work: Path) -> Make:
    """Write a recording of 0.7 s in each format, in WAV also with odd rates and with NaN."""
    files = _whole_files(work)
    reader = AudioReader(_RATE, max_seconds=60)

    def make(draw: random.Random, folder: Path) -> Case:
        whole = draw.choice(files)
        what, data = draw.choice([damage_bytes, damage_header])(draw, whole.read_bytes())
        ending = whole.suffix if draw.random() < 0.7 else draw.choice([".m4a", ".webm", ".wav", ".mp3"])
        path = folder / f"a{ending}"
        path.write_bytes(data)
        part = (0.1, 0.2) if draw.random() < 0.3 else (0.0, None)
        return Case(f"{path.name} ({whole.name}), part {part}: {what}", lambda: _use(path, reader, *part))

    return make


def _whole_files(work: Path) -> list[Path]:
    tone = chirp(0.7, 48_000)
    stereo = np.stack([tone, tone[::-1]])
    for number, (ending, container, subtype) in enumerate(_LIBSNDFILE):
        samples = tone if number % 2 else stereo.T
        soundfile.write(work / f"{number}.{ending}", samples, 48_000, format=container, subtype=subtype)
    for ending, codec, container in _FFMPEG:
        with suppress(pytest.skip.Exception):  # this FFmpeg cannot write it
            encode(work / f"{codec}.{ending}", codec, container, stereo, 48_000)
    for rate in (1, 7, 11_127, 44_101, 2_000_000):
        soundfile.write(work / f"{rate}.wav", tone[:8000], rate)
    broken = tone.copy()
    broken[100:200] = np.nan
    soundfile.write(work / "nan.wav", broken, _RATE, subtype="FLOAT")
    return sorted(work.iterdir())


def _use(path: Path, reader: AudioReader, offset: float, duration: float | None) -> None:
    utterance = Utterance(path, "", where="m.jsonl:1", offset=offset, duration=duration)
    try:
        samples, seconds = reader.read(utterance), reader.length(utterance)
    except InputError as error:
        if not str(error).startswith("m.jsonl:1: ") or path.name not in str(error):
            raise Wrong(f"the message does not name line and file: {error}") from None
        raise
    if samples.dim() != 1 or not len(samples) or not samples.isfinite().all():
        raise Wrong("samples that are not numbers, or none, were read")
    if abs(len(samples) / _RATE - seconds) > 0.1 + 0.05 * seconds:
        raise Wrong(f"{len(samples) / _RATE:.2f} s were read of a recording of {seconds:.2f} s")
