"""Read audio of any format, sample rate and number of channels as mono at one rate."""

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
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
    path, prefix = utterance.audio_filepath, _prefix(utterance)
    if not math.isfinite(utterance.offset + (utterance.duration or 0.0)):
        raise InputError(
            f"{prefix}offset {utterance.offset} and duration {utterance.duration} must be finite, in seconds."
        )
    if (problem := file_problem(path, "audio file")) is not None:
        raise InputError(f"{prefix}{problem}. Relative paths start at the manifest's folder.")
    try:
        samples, rate = _read_part(path, utterance.offset, utterance.duration, max_seconds)
    except InputError as error:
        raise InputError(prefix + str(error)) from None
    if not np.isfinite(samples).all():
        raise InputError(f"{prefix}'{path}' contains samples that are not numbers (NaN or infinite).")
    return resample(torch.from_numpy(samples), rate, sample_rate)


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
    rate, frames, start = source.rate, source.frames, round(offset * source.rate)
    limit = int(max_seconds * min(rate, _HIGHEST_RATE))
    wanted = None if duration is None else round(duration * rate)
    if frames is not None:
        if start >= frames or (wanted is not None and start + wanted > frames + _TOLERANCE * rate):
            raise too_short(path, frames / rate, offset, duration)
        wanted = frames - start if wanted is None else min(wanted, frames - start)
    if wanted is not None and wanted > limit:
        raise _too_long(path, f"{wanted / rate:,.0f} s", limit / rate)
    samples, channel = mix(lambda: source.blocks(start, limit + 1 if wanted is None else wanted))
    if len(samples) > limit:
        raise _too_long(path, f"more than {limit / rate:,.0f} s", limit / rate)
    return samples, channel


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
    try:
        stat = path.stat()
    except (OSError, ValueError):
        raise InputError(f"{file_problem(path, 'audio file') or f'{shown(path)} cannot be read'}.") from None
    return _measured(path, stat.st_mtime_ns, stat.st_size, max_seconds)


@lru_cache(maxsize=1 << 16)
def _measured(path: Path, modified: int, size: int, max_seconds: float) -> float:
    # Training asks for the length of each file several times. `modified` and `size` tell when a file has changed.
    with open_audio(path) as source:
        if source.announced is not None:
            return source.announced
        return sum(map(len, source.blocks(0, int(max_seconds * source.rate)))) / source.rate
