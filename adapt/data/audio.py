"""Read audio of any format, sample rate and number of channels as mono at one rate."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from adapt.data.audio_file import AudioSource, open_audio
from adapt.data.audio_headers import find_cut
from adapt.data.channels import mix
from adapt.data.kinds import unexpected
from adapt.data.manifest import Utterance
from adapt.data.notes import note
from adapt.data.recording import Recording
from adapt.data.resampling import resample, resampled_length
from adapt.errors import InputError
from adapt.files import file_problem, shown

# No model here reads an hour at once, which takes 0.7 GB at 48 kHz. Compressed silence can hold any length in a few
# bytes, so the length is bounded, not the size of the file. Above 48 kHz, accordingly less is read.
MAX_SECONDS = 3600.0
_HIGHEST_RATE = 48_000
_TOLERANCE = 0.05  # seconds by which an utterance may exceed its file: manifests round durations
_PADDING = 0.1  # seconds by which a decoder may return less than its container announces
_MORE = 1.05  # how much longer than announced a compressed recording may be
_MOST_KEPT = 1 << 20  # files whose durations are kept in memory
_seconds: dict[tuple[str, int, int, float], float] = {}
NO_END_MARK = "its last Ogg page is not marked as the last one, so its end may be missing."
ANTIPHASE = "the channels cancel each other out (antiphase), so the loudest one is read instead of their mean."


@dataclass(frozen=True)
class AudioReader:
    """Read utterances as waveforms `(samples,)` at `sample_rate` Hz.

    Utterances longer than `max_seconds` are refused; parts of longer files are read. `window` is the length in seconds
    to which the network pads every utterance; None if it pads to the longest of a batch.
    """

    sample_rate: int
    unit: Literal["seconds", "tokens"] = "seconds"
    max_seconds: float = MAX_SECONDS
    window: float | None = None

    def length(self, utterance: Utterance | Recording) -> float:
        """Return the duration in seconds. Only files that do not announce it are decoded. Raises InputError."""
        if isinstance(utterance, Recording):
            return utterance.duration
        if not isinstance(utterance, Utterance):
            raise unexpected(utterance, "audio")
        if utterance.duration is not None:
            return utterance.duration
        try:
            return _file_seconds(utterance.audio_filepath, self.max_seconds) - utterance.offset
        except InputError as error:
            raise InputError(_prefix(utterance) + str(error)) from None

    def read(self, utterance: Utterance | Recording, speed: float = 1.0) -> Tensor:
        """Return the samples, `(samples,)`; a `speed` above 1 shortens them. Raises InputError as `read_audio` does."""
        if isinstance(utterance, Recording):
            samples = resample(torch.from_numpy(utterance.samples), utterance.sample_rate, self.sample_rate)
        elif isinstance(utterance, Utterance):
            samples = read_audio(utterance, self.sample_rate, self.max_seconds)
        else:
            raise unexpected(utterance, "audio")
        return resample(samples, round(self.sample_rate * speed), self.sample_rate)

    def length_at(self, samples: int, speed: float) -> int:
        """Return how many samples `read` returns at a speed, if it returns `samples` at speed 1."""
        return resampled_length(samples, round(self.sample_rate * speed), self.sample_rate)


def read_audio(utterance: Utterance, sample_rate: int, max_seconds: float = MAX_SECONDS) -> Tensor:
    """Return the utterance's samples, `(samples,)` float32 from -1 to 1, resampled to `sample_rate` Hz and mono.

    Channels are averaged, unless they cancel each other out (`adapt.data.channels.mix`); this is logged.

    Args:
        utterance: The utterance.
        sample_rate: The sample rate of the result in Hz.
        max_seconds: The longest duration that is read. It bounds the memory, whatever a file contains or announces.

    Raises:
        InputError: the file is missing, is not audio, is broken or cut off, ends before the utterance does, lasts
            longer than `max_seconds`, or contains NaN or infinity.
    """
    samples, rate = decoded(utterance, max_seconds)
    return resample(torch.from_numpy(samples), rate, sample_rate)


def decoded(utterance: Utterance, max_seconds: float = MAX_SECONDS) -> tuple[np.ndarray, int]:
    """Return the utterance's samples, `(samples,)` float32, mono, and their rate in Hz. Raises as `read_audio` does."""
    path, prefix = utterance.audio_filepath, _checked_prefix(utterance)
    try:
        samples, rate = _read_part(path, utterance.offset, utterance.duration, max_seconds)
    except InputError as error:
        raise InputError(prefix + str(error)) from None
    if not np.isfinite(samples).all():
        raise InputError(f"{prefix}'{path}' contains samples that are not numbers (NaN or infinite).")
    return samples, rate


@dataclass(frozen=True)
class Header:
    """What the header of an audio file says.

    Attributes:
        rate: The sample rate in Hz.
        frames: The number of samples per channel; None if the header does not tell, so that the file must be decoded.
        whole: Whether the container shows no sign that the end of the file is missing.
    """

    rate: int
    frames: int | None
    whole: bool


def read_header(utterance: Utterance) -> Header:
    """Read the header of an utterance's file. Raises InputError if the file is missing, is not audio or is cut off."""
    path, prefix = utterance.audio_filepath, _checked_prefix(utterance)
    try:
        cut = find_cut(path)
        if cut is not None and utterance.duration is None:
            refuse_cut(path)
        with open_audio(path) as source:
            return Header(source.rate, source.frames, cut is None)
    except InputError as error:
        with _named(prefix):
            refuse_cut(path)  # the reason behind most other errors
        raise InputError(prefix + str(error)) from None


def announced_length(utterance: Utterance, header: Header, max_seconds: float = MAX_SECONDS) -> int:
    """Return how many samples per channel `decoded` returns at the file's rate, by its header, which tells `frames`.

    Raises:
        InputError: the file ends before the utterance does, or the utterance lasts longer than `max_seconds`.
    """
    path, prefix = utterance.audio_filepath, _prefix(utterance)
    _check_finite(utterance, prefix)
    try:
        _, wanted, _ = _wanted(path, header, utterance.offset, utterance.duration, max_seconds)
    except InputError as error:
        with _named(prefix):
            refuse_cut(path)
        raise InputError(prefix + str(error)) from None
    assert wanted is not None
    return wanted


def _checked_prefix(utterance: Utterance) -> str:
    prefix = _prefix(utterance)
    _check_finite(utterance, prefix)
    if (problem := file_problem(utterance.audio_filepath, "audio file")) is not None:
        raise InputError(f"{prefix}{problem}. Relative paths start at the manifest's folder.")
    return prefix


def _check_finite(utterance: Utterance, prefix: str) -> None:
    if not math.isfinite(utterance.offset + (utterance.duration or 0.0)):
        raise InputError(
            f"{prefix}offset {utterance.offset} and duration {utterance.duration} must be finite, in seconds."
        )


@contextmanager
def _named(prefix: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(prefix + str(error)) from None


def _prefix(utterance: Utterance) -> str:
    return f"{utterance.where}: " if utterance.where else ""


def _read_part(path: Path, offset: float, duration: float | None, max_seconds: float) -> tuple[np.ndarray, int]:
    # Returns mono samples and their rate.
    if duration is None:
        refuse_cut(path)  # otherwise its rest would be read as the whole
    try:
        with open_audio(path) as source:
            samples, channel = _mono(path, source, offset, duration, max_seconds)
            check_complete(path, source, len(samples), offset, duration)
    except InputError:
        refuse_cut(path)  # the reason behind most other errors
        raise
    if channel is not None:
        note(ANTIPHASE, str(path))
    return samples, source.rate


def _mono(
    path: Path, source: AudioSource, offset: float, duration: float | None, max_seconds: float
) -> tuple[np.ndarray, int | None]:
    start, wanted, limit = _wanted(path, source, offset, duration, max_seconds)
    samples, channel = mix(lambda: source.blocks(start, limit + 1 if wanted is None else wanted))
    if len(samples) > limit:
        raise _too_long(path, f"more than {limit / source.rate:,.0f} s", limit / source.rate)
    return samples, channel


def _wanted(
    path: Path, source: AudioSource | Header, offset: float, duration: float | None, max_seconds: float
) -> tuple[int, int | None, int]:
    # Returns the first sample, how many there are of it (None if nobody knows) and how many may be read at most.
    rate, frames, start = source.rate, source.frames, round(offset * source.rate)
    limit = int(max_seconds * min(rate, _HIGHEST_RATE))
    wanted = None if duration is None else round(duration * rate)
    if frames is not None:
        if start >= frames or (wanted is not None and start + wanted > frames + _TOLERANCE * rate):
            raise too_short(path, frames / rate, offset, duration)
        wanted = frames - start if wanted is None else min(wanted, frames - start)
    if wanted is not None and wanted > limit:
        raise _too_long(path, f"{wanted / rate:,.0f} s", limit / rate)
    return start, wanted, limit


def check_complete(path: Path, source: AudioSource, read: int, offset: float, duration: float | None) -> None:
    """Compare the number of samples that were read with what was asked for and announced. Raises InputError."""
    there, decoded = read / source.rate, source.frames is None
    if decoded and (offset and not read if duration is None else there < duration - _TOLERANCE):
        raise too_short(path, offset + there if read else _file_seconds(path, MAX_SECONDS), offset, duration)
    if not read and duration is None:
        raise InputError(f"'{path}' contains no samples.")
    if source.announced is None or (decoded and duration is not None):
        return
    left = source.announced - offset
    wanted = left if duration is None else min(duration, left)
    if there < wanted - (_PADDING if decoded else _TOLERANCE):
        raise InputError(
            f"'{path}' is truncated: its header announces {source.announced:.2f} s, but only {offset + there:.2f} s "
            "could be read. Copy or download it again, or leave it out."
        )
    if decoded and duration is None and there > _MORE * left + _PADDING:  # batches are made by the announced length
        raise InputError(
            f"'{path}' holds {offset + there:.2f} s, but its header announces {source.announced:.2f} s. It may be "
            "several files in one. Convert it to WAV or FLAC."
        )


def too_short(path: Path, seconds: float, offset: float, duration: float | None) -> InputError:
    """Return the error for an utterance that ends after its file does."""
    end = "its end" if duration is None else f"{offset + duration:.2f} s"
    return InputError(
        f"'{path}' lasts {seconds:.2f} s, and the utterance should run from {offset:.2f} s to {end}. Correct 'offset' "
        "and 'duration'."
    )


def _too_long(path: Path, lasts: str, most: float) -> InputError:
    return InputError(
        f"'{path}' lasts {lasts}, by its header or its content; at most {most:,.0f} s are read at once, to bound the "
        "memory. Split it, or give parts of it by offset and duration."
    )


def refuse_cut(path: Path) -> None:
    """Raise InputError if the end of the file is missing."""
    cut = find_cut(path)
    if cut is None:
        return
    if not cut.certain:
        note(NO_END_MARK, str(path))
        return
    there = 0.0
    with suppress(InputError), open_audio(path) as source:
        for block in source.blocks(0, int(MAX_SECONDS * source.rate)):
            there += len(block) / source.rate
    if cut.announced is None:
        what = f"it stops in the middle of a packet after {there:.2f} s" if there else "its end is missing"
    elif there and cut.there:
        what = f"its header announces {there * cut.announced / cut.there:.2f} s, but only {there:.2f} s are there"
    else:
        what = f"only {cut.there:,} of {cut.announced:,} bytes are there"
    raise InputError(f"'{path}' is truncated: {what}. Copy or download it again, or leave it out.")


def _file_seconds(path: Path, max_seconds: float) -> float:
    # Training asks for the length of each file several times.
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        raise InputError(f"{file_problem(path, 'audio file') or f'{shown(path)} cannot be read'}.") from None
    kept = _seconds.get(_kept_as(path, state, max_seconds))
    if kept is not None:
        return kept
    with open_audio(path) as source:
        seconds = source.announced
        if seconds is None:
            seconds = sum(map(len, source.blocks(0, int(max_seconds * source.rate)))) / source.rate
    keep_seconds(path, state, max_seconds, seconds)
    return seconds


def keep_seconds(path: Path, state: os.stat_result, max_seconds: float, seconds: float) -> None:
    """Keep the duration of a file, for `AudioReader.length`, until the file changes or the process ends."""
    if len(_seconds) >= _MOST_KEPT:
        _seconds.clear()
    _seconds[_kept_as(path, state, max_seconds)] = seconds


def _kept_as(path: Path, state: os.stat_result, max_seconds: float) -> tuple[str, int, int, float]:
    return str(path), state.st_mtime_ns, state.st_size, max_seconds
