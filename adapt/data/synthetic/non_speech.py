"""Sounds without speech: silence, noise, mains hum and music, computed from a seed. A recogniser writes nothing."""

from collections.abc import Callable

import numpy as np

from adapt.checks import check_count
from adapt.data.recording import Recording

_SECONDS = (3.0, 6.0, 1.5, 8.0, 4.0)
_LEVELS = (-40, -25, -55, -15)  # dB of the root mean square below full scale
_SCALE = (0, 2, 4, 7, 9, 12)  # semitones of a pentatonic scale


def non_speech(
    count: int, sample_rate: int, language: str | None = None, seed: int = 0, longest: float | None = None
) -> list[Recording]:
    """Return `count` sounds without speech, of different lengths (1.5 to 8 s) and levels (−55 to −15 dB).

    Args:
        count: The number of sounds; their kinds take turns: silence, white noise, pink noise, hum, music.
        sample_rate: In Hz.
        language: The value of their key "lang", for models that need one; None leaves it out.
        seed: The same seed gives the same sounds.
        longest: The length in seconds at which longer sounds end, the window of a Whisper; None for no limit.
    """
    check_count("count", count, 0)
    sounds = []
    for number in range(count):
        name, make = _KINDS[number % len(_KINDS)]
        seconds, level = _SECONDS[(number + number // 5) % len(_SECONDS)], _LEVELS[number % len(_LEVELS)]
        seconds = min(seconds, longest or seconds)
        draw = np.random.default_rng((seed, number))
        samples = make(int(seconds * sample_rate), sample_rate, draw)
        loud = float(np.sqrt(np.mean(samples**2)))
        scaled = samples * (10 ** (level / 20) / loud) if loud else samples
        told = f"{name}, {seconds:g} s" + (f", {level} dB" if loud else "")
        extra = {} if language is None else {"lang": language}
        sounds.append(Recording(np.clip(scaled, -1, 1), sample_rate, name=told, extra=extra))
    return sounds


def _silence(count: int, rate: int, draw: np.random.Generator) -> np.ndarray:
    return np.zeros(count)


def _white(count: int, rate: int, draw: np.random.Generator) -> np.ndarray:
    return draw.standard_normal(count)


def _pink(count: int, rate: int, draw: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with the frequency, as that of rooms and traffic does."""
    spectrum = np.fft.rfft(draw.standard_normal(count))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    return np.fft.irfft(spectrum, count)


def _hum(count: int, rate: int, draw: np.random.Generator) -> np.ndarray:
    """The hum of mains with its harmonics, and a little noise."""
    time, mains = np.arange(count) / rate, draw.choice((50.0, 60.0))
    tones = [np.sin(2 * np.pi * mains * n * time + draw.uniform(0, 2 * np.pi)) / n for n in range(1, 9)]
    return np.sum(tones, axis=0) + 0.02 * draw.standard_normal(count)


def _music(count: int, rate: int, draw: np.random.Generator) -> np.ndarray:
    """Plucked notes of a pentatonic scale over a slow bass, two to five a second."""
    samples, time = np.zeros(count), np.arange(count) / rate
    root, beat = 110 * 2 ** (draw.integers(12) / 12), 1 / draw.uniform(2, 5)
    for place, start in enumerate(np.arange(0, count / rate, beat)):
        octave = 1 if place % 4 == 0 else 4
        pitch = root * octave * 2 ** (draw.choice(_SCALE) / 12)
        since = time - start
        decay = np.where(since >= 0, np.exp(-4 * np.maximum(since, 0)), 0)
        samples += decay * sum(np.sin(2 * np.pi * pitch * n * since) / n**2 for n in range(1, 5))
    return samples


_KINDS: tuple[tuple[str, Callable[[int, int, np.random.Generator], np.ndarray]], ...] = (
    ("silence", _silence),
    ("white noise", _white),
    ("pink noise", _pink),
    ("hum", _hum),
    ("music", _music),
)
