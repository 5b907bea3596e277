"""Speech synthesis with espeak-ng: samples and phoneme times. The same arguments always give the same bytes.

The library comes with the package `espeakng-loader` (`pip install 'innertune[accents]'`) and is called with ctypes.
It must be unloaded after each use, which works on Linux and macOS only.
"""

import ctypes
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from adapt.data.example import Phoneme
from adapt.errors import InputError
from adapt.files import is_file

SAMPLE_RATE = 22_050  # Hz, of all voices of espeak-ng

# Constants of espeak-ng's `speak_lib.h`.
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x1, 0x2, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_LIST_END, _PHONEME = 0, 7
_STOPS = set("pbtdkɡgcɟqʔʈɖ")  # affricates begin with one of these too
_SILENCE, _CLOSURE = SAMPLE_RATE // 100, SAMPLE_RATE * 8 // 100  # samples: 10 ms and 80 ms
_SPELLING = str.maketrans(":", "ː", "ˈˌ")  # removes stress marks, and unifies the length mark

_RANGES = {"rate_wpm": (80, 450), "pitch": (0, 99), "pitch_range": (0, 99)}

# One utterance at a time: the library keeps its state in globals.
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Speech:
    """A spoken text.

    Attributes:
        samples: `(samples,)` int16, mono.
        sample_rate: the sample rate in Hz.
        phonemes: the phonemes in order, with times in seconds. They do not overlap, and pauses are left out. Symbols
            are IPA with length marks but without stress marks, so stressed and unstressed vowels have the same symbol.
        words: the words in order: where in the text a word begins (in characters), and the start of its first phoneme
            in seconds. Words that espeak-ng says as one, such as "of the", may be one here.
    """

    samples: np.ndarray
    sample_rate: int
    phonemes: tuple[Phoneme, ...]
    words: tuple[tuple[int, float], ...] = ()


def speak(
    text: str, voice: str, variant: str | None = None, rate_wpm: int = 175, pitch: int = 50, pitch_range: int = 50
) -> Speech:
    """Synthesise `text`.

    Args:
        text: the text, with at least one word.
        voice: a name from `voices()`, such as "en-us".
        variant: a speaker variant from `variants()`, such as "m3"; None for the voice's own.
        rate_wpm: words per minute, 80 to 450.
        pitch: from 0 to 99; 50 is the variant's own.
        pitch_range: how much the pitch varies, from 0 (monotone) to 99; 50 is the variant's own.

    Raises:
        InputError: the package is not installed, the text is empty, the voice or variant does not exist, or a number
            is out of its range.
    """
    if not text.strip() or "\0" in text:
        raise InputError(f"There is nothing to speak in {text!r}. Expected a text with at least one word.")
    for name, value in (("rate_wpm", rate_wpm), ("pitch", pitch), ("pitch_range", pitch_range)):
        low, high = _RANGES[name]
        if not low <= value <= high:
            raise InputError(f"{name} must be between {low} and {high}; got {value}.")
    full_name = _known(voice, _voice_files(), "voice")
    if variant is not None:
        full_name += "+" + _known(variant, {name: name for name in variants()}, "variant")
    with _lock, _library() as library:
        if library.espeak_SetVoiceByName(full_name.encode()) != 0:
            raise RuntimeError(f"espeak-ng lists the voice '{full_name}', but failed to load it.")
        for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        samples, marks = _synthesise(library, text)
    return Speech(samples, SAMPLE_RATE, *_phonemes(marks, samples))


def voices() -> tuple[str, ...]:
    """Return the names of all voices, which are language codes: "de", "en-gb", "en-gb-scotland", "en-us", ...

    Raises:
        InputError: the package is not installed.
    """
    return tuple(sorted(_voice_files()))


@cache
def variants() -> tuple[str, ...]:
    """Return the names of all speaker variants: "f1", "m3", "klatt2", ... Each works with every voice.

    Raises:
        InputError: the package is not installed.
    """
    return tuple(sorted(path.name for path in (_data() / "voices" / "!v").iterdir()))


def version() -> str:
    """Return the version of espeak-ng, such as "1.52.0".

    Raises:
        InputError: the package is not installed.
    """
    with _lock, _library() as library:
        library.espeak_Info.restype = ctypes.c_char_p
        return library.espeak_Info(None).decode().split()[0]


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _loader() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError:
        raise InputError(
            "Synthetic speech needs the package 'espeakng-loader', which is not installed. "
            "Install it with: pip install 'innertune[accents]'"
        ) from None
    return espeakng_loader


def _data() -> Path:
    return Path(_loader().get_data_path())


@contextmanager
def _library() -> Iterator[ctypes.CDLL]:
    """Load espeak-ng in its initial state.

    espeak-ng keeps the phases of flutter and waves in static variables. They carry over to the next utterance, and
    neither a new voice nor espeak_Initialize resets them. Unloading and reloading the shared object does, in
    0.2 ms. The noise of breathy voices is seeded with the clock, and other noise comes from the C library's rand(), so
    this function seeds both.
    """
    import _ctypes

    library = ctypes.CDLL(str(_loader().get_library_path()))
    try:
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        if library.espeak_Initialize(_SYNCHRONOUS, 0, str(_data()).encode(), options) != SAMPLE_RATE:
            raise RuntimeError(f"espeak-ng could not be started with its data in {_data()}.")
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        library.srand(1)
        yield library
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)


def _synthesise(library: ctypes.CDLL, text: str) -> tuple[np.ndarray, list[tuple[int, str, int]]]:
    """Return the samples, and for each phoneme its first sample's number, its symbol ("" for a pause) and its word.

    The word is the number of its first character in the text.
    """
    chunks: list[bytes] = []
    marks: list[tuple[int, str, int]] = []

    @_Callback
    def collect(wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            chunks.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != _LIST_END:
            if events[index].type == _PHONEME:
                symbol = events[index].id.string.decode("utf-8", errors="ignore").translate(_SPELLING)
                # "(en)" marks a word of another language, and a lone "ʲ" belongs to the sound before it.
                if not symbol.startswith(("(", "ʲ")):
                    symbol = "" if symbol.startswith("_") else symbol
                    marks.append((events[index].sample, symbol, events[index].text_position - 1))
            index += 1
        return 0

    library.espeak_SetSynthCallback(collect)
    data = text.encode()
    if library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None) != 0:
        raise RuntimeError(f"espeak-ng could not speak {text!r}.")
    return np.frombuffer(b"".join(chunks), dtype=np.int16), marks


def _phonemes(
    marks: list[tuple[int, str, int]], samples: np.ndarray
) -> tuple[tuple[Phoneme, ...], tuple[tuple[int, float], ...]]:
    """Return the phonemes, and the words: each phoneme lasts from its mark to the next mark, or to the audio's end.

    espeak-ng marks a stop at its burst. Up to 80 ms of silence (exact zeros) before it are the stop's closure and
    belong to it. Any other silence before a mark is a pause, and belongs to no phoneme.
    """
    total = len(samples)
    starts = [min(max(sample, 0), total) for sample, _, _ in marks] + [total]
    sounding = np.flatnonzero(samples)
    begins, ends = [], []
    for start, (_, symbol, _) in zip(starts, [*marks, (total, "", 0)], strict=True):
        before = int(np.searchsorted(sounding, start))
        silent_from = int(sounding[before - 1]) + 1 if before else 0
        if start - silent_from < _SILENCE:
            silent_from = start
        ends.append(silent_from)
        begins.append(max(silent_from, start - _CLOSURE) if symbol and symbol[0] in _STOPS else start)
    phonemes, last = [], 0
    words: dict[int, float] = {}
    for (_, symbol, word), begin, end in zip(marks, begins, ends[1:], strict=False):
        begin = max(begin, last)
        if symbol and begin < end:
            phonemes.append(Phoneme(symbol, round(begin / SAMPLE_RATE, 5), round(end / SAMPLE_RATE, 5)))
            words.setdefault(word, phonemes[-1].start)
            last = end
    return tuple(phonemes), tuple(words.items())


@cache
def _voice_files() -> Mapping[str, str]:
    """Return the voice files below `lang/` by language code, which the first "language" line of a file names."""
    files = {}
    folder = _data() / "lang"
    for path in sorted(folder.rglob("*")):
        if is_file(path):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("language"):
                    files.setdefault(line.split()[1].lower(), path.relative_to(folder).as_posix())
                    break
    return files


def _known(name: str, known: Mapping[str, str], kind: str) -> str:
    if name not in known:
        raise InputError(f"There is no {kind} '{name}' in espeak-ng. The {kind}s are: {', '.join(sorted(known))}.")
    return known[name]
