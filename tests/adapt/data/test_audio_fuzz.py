"""Damaged audio files of every format give audio or an InputError that names the file, never another error."""

import random

import numpy as np
import pytest
import soundfile

from adapt.data.audio import AudioReader
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from tests.av_files import chirp, encode

RATE = 16_000
TRIES = 12
FORMATS = {
    "wav": ("WAV", "PCM_16"), "float.wav": ("WAV", "FLOAT"), "adpcm.wav": ("WAV", "MS_ADPCM"),
    "rf64": ("RF64", "PCM_16"), "w64": ("W64", "PCM_16"), "aiff": ("AIFF", "PCM_16"), "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"), "voc": ("VOC", "PCM_16"), "sph": ("NIST", "PCM_16"), "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"),
    "m4a": ("aac", "ipod"), "mp4": ("alac", "mp4"), "webm": ("libopus", "webm"), "wma": ("wmav2", "asf"),
    "aac": ("aac", "adts"), "avi": ("libmp3lame", "avi"),
}  # fmt: skip


def damage(content, draw):
    """Overwrite, cut, repeat or insert bytes, more often near the header."""
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8])):
        place = draw.randrange(min(len(content), draw.choice([64, 256, len(content)])) or 1)
        kind = draw.choice(["byte", "large", "cut", "repeat", "zeros", "noise"])
        if kind == "byte" and content:
            content[place] = draw.randrange(256)
        elif kind == "large":
            content[place : place + 4] = draw.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
        elif kind == "cut":
            del content[draw.randrange(len(content) or 1) :]
        elif kind == "repeat":
            content[place:place] = content[place : place + draw.randrange(1, 200)]
        elif kind == "zeros":
            content[place : place + draw.randrange(1, 100)] = bytes(20)
        else:
            content[place : place + 20] = draw.randbytes(20)
    return bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files(tmp_path, suffix):
    kind, how = FORMATS[suffix]
    path, samples, rate = tmp_path / f"a.{suffix}", np.stack([chirp(0.7, 48_000), chirp(0.7, 48_000)[::-1]]), 48_000
    if kind.isupper():
        soundfile.write(path, samples.T, rate, format=kind, subtype=how)
    else:
        encode(path, kind, how, samples, rate)
    whole, draw, reader = path.read_bytes(), random.Random(suffix), AudioReader(RATE, max_seconds=60)
    for number in range(TRIES):
        damaged = tmp_path / f"{number}.{suffix}"
        damaged.write_bytes(damage(whole, draw))
        utterance = Utterance(damaged, "", where="m.jsonl:1", **draw.choice([{}, {"offset": 0.1, "duration": 0.2}]))
        try:
            audio, seconds = reader.read(utterance), reader.length(utterance)
            assert audio.dim() == 1 and audio.isfinite().all() and seconds >= 0
        except InputError as error:
            assert str(error).startswith("m.jsonl:1: ") and damaged.name in str(error)
