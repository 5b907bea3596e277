"""Speech from text with espeak-ng: samples and phoneme times, the same for the same arguments, whatever came before.

The library comes in the wheel `espeakng-loader`, an extra (`pip install 'innertune[accents]'`), and is called with
ctypes; on Linux and macOS only, for it must be unloaded again.
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

from adapt.data.manifest import Phoneme
from adapt.errors import InputError

SAMPLE_RATE = 22_050  # Hz, what every voice of espeak-ng is made at

# The numbers below are those of espeak-ng's `speak_lib.h`.
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x1, 0x2, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_LIST_END, _PHONEME = 0, 7
_STOPS = set("pbtdkɡgcɟqʔʈɖ")  # an affricate begins with one of them
_SILENCE, _CLOSURE = SAMPLE_RATE // 100, SAMPLE_RATE * 8 // 100  # samples: at least 10 ms, at most 80 ms
_SPELLING = str.maketrans(":", "ː", "ˈˌ")  # no stress marks, and one sign for length

_RANGES = {"rate_wpm": (80, 450), "pitch": (0, 99), "pitch_range": (0, 99)}

# One utterance at a time: the library keeps its state in globals.
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Speech:
    """One spoken text. `samples` is int16 of shape (samples,), mono, at `sample_rate` Hz.

    `phonemes` are in order, times in seconds, each with start < end, none overlapping; pauses are left out. Symbols are
    IPA with length marks but without stress marks: a stressed vowel and an unstressed one are the same symbol.
    """

    samples: np.ndarray
    sample_rate: int
    phonemes: tuple[Phoneme, ...]


def speak(
    text: str, voice: str, variant: str | None = None, rate_wpm: int = 175, pitch: int = 50, pitch_range: int = 50
) -> Speech:
    """Speak `text` with a voice ("en-us", "de", ...) and, if given, a speaker variant ("m3", "f2", ...).

    Args:
        rate_wpm: words a minute, 80 to 450.
        pitch: 0 to 99; 50 is the variant's own.
        pitch_range: how far the pitch moves, 0 (monotone) to 99; 50 is the variant's own.

    Raises:
        InputError: the wheel is not installed, the text is empty, there is no such voice or variant, or a number is
            out of its range.
    """
    if not text.strip() or "\0" in text:
        raise InputError(f"There is nothing to speak in {text!r}. Give a text with at least one word.")
    for name, value in (("rate_wpm", rate_wpm), ("pitch", pitch), ("pitch_range", pitch_range)):
        low, high = _RANGES[name]
        if not low <= value <= high:
            raise InputError(f"{name} must be between {low} and {high}, got {value}.")
    spoken_as = _known(voice, _voice_files(), "voice")
    if variant is not None:
        spoken_as += "+" + _known(variant, {name: name for name in variants()}, "variant")
    with _lock, _library() as library:
        if library.espeak_SetVoiceByName(spoken_as.encode()) != 0:
            raise RuntimeError(f"espeak-ng lists the voice '{spoken_as}' but would not load it.")
        for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        samples, marks = _synthesise(library, text)
    return Speech(samples, SAMPLE_RATE, _phonemes(marks, samples))


def voices() -> tuple[str, ...]:
    """The voices there are, by language code: "de", "en-gb", "en-gb-scotland", "en-us", ...

    Raises:
        InputError: the wheel is not installed.
    """
    return tuple(sorted(_voice_files()))


@cache
def variants() -> tuple[str, ...]:
    """The speaker variants there are: "f1", "m3", "klatt2", ... Each can be put on any voice.

    Raises:
        InputError: the wheel is not installed.
    """
    return tuple(sorted(path.name for path in (_data() / "voices" / "!v").iterdir()))


def version() -> str:
    """The version of espeak-ng itself, for example "1.52.0".

    Raises:
        InputError: the wheel is not installed.
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
    """espeak-ng as in a process that has just begun.

    Its flutter and wave phases are static variables that run on from one utterance to the next, and that neither a new
    voice nor espeak_Initialize sets back. Unloading the shared object and loading it again does, and takes a fifth of a
    millisecond. It seeds the noise of breathy voices with the clock, and takes other noise from the C library's rand().
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


def _synthesise(library: ctypes.CDLL, text: str) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """The samples, and for each phoneme event the sample where it begins and its symbol ("" for a pause)."""
    chunks: list[bytes] = []
    marks: list[tuple[int, str]] = []

    @_Callback
    def collect(wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            chunks.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != _LIST_END:
            if events[index].type == _PHONEME:
                symbol = events[index].id.string.decode("utf-8", errors="ignore").translate(_SPELLING)
                # "(en)" says that a word is of another language, and a lone "ʲ" belongs to the sound before.
                if not symbol.startswith(("(", "ʲ")):
                    marks.append((events[index].sample, "" if symbol.startswith("_") else symbol))
            index += 1
        return 0

    library.espeak_SetSynthCallback(collect)
    data = text.encode()
    if library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None) != 0:
        raise RuntimeError(f"espeak-ng could not speak {text!r}.")
    return np.frombuffer(b"".join(chunks), dtype=np.int16), marks


def _phonemes(marks: list[tuple[int, str]], samples: np.ndarray) -> tuple[Phoneme, ...]:
    """Each phoneme from its mark to the next one's, or to the audio's end.

    espeak-ng marks a stop at its burst. The silence before it, which is made of exact zeros, is the stop's closure and
    so part of it, up to 80 ms; any other silence before a mark is a pause and part of no phoneme.
    """
    total = len(samples)
    starts = [min(max(sample, 0), total) for sample, _ in marks] + [total]
    sounding = np.flatnonzero(samples)
    begins, ends = [], []
    for start, (_, symbol) in zip(starts, [*marks, (total, "")], strict=True):
        before = int(np.searchsorted(sounding, start))
        silent_from = int(sounding[before - 1]) + 1 if before else 0
        if start - silent_from < _SILENCE:
            silent_from = start
        ends.append(silent_from)
        begins.append(max(silent_from, start - _CLOSURE) if symbol and symbol[0] in _STOPS else start)
    found, last = [], 0
    for (_, symbol), begin, end in zip(marks, begins, ends[1:], strict=False):
        begin = max(begin, last)
        if symbol and begin < end:
            found.append(Phoneme(symbol, round(begin / SAMPLE_RATE, 5), round(end / SAMPLE_RATE, 5)))
            last = end
    return tuple(found)


@cache
def _voice_files() -> Mapping[str, str]:
    """Language code -> the voice's file below `lang/`. A voice's first "language" line is the code that is its own."""
    files = {}
    folder = _data() / "lang"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("language"):
                    files.setdefault(line.split()[1].lower(), path.relative_to(folder).as_posix())
                    break
    return files


def _known(name: str, there: Mapping[str, str], kind: str) -> str:
    if name not in there:
        raise InputError(f"There is no {kind} '{name}' in espeak-ng. The {kind}s are: {', '.join(sorted(there))}.")
    return there[name]
