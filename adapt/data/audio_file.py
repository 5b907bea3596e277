"""Open an audio file with libsndfile or, if it cannot read the format, with FFmpeg (PyAV)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adapt.errors import InputError

RATES = (1_000, 1_000_000)  # Hz; a rate outside of it does not belong to speech, or the header is damaged
BLOCK = 1 << 23  # samples that are read at once, of all channels together: 32 MiB


class AudioSource(Protocol):
    """An open audio file.

    Attributes:
        rate: The sample rate in Hz.
        channels: The number of channels.
        frames: The length in samples per channel, if the file knows it for certain; otherwise None.
        announced: The length in seconds that the header announces; None if it announces none.
    """

    @property
    def rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def frames(self) -> int | None: ...
    @property
    def announced(self) -> float | None: ...

    def blocks(self, start: int, count: int) -> Iterator[np.ndarray]:
        """Yield the samples from `start`, at most `count`, in blocks `(frames, channels)` float32.

        Raises InputError if the file is damaged there.
        """
        ...


@contextmanager
def open_audio(path: Path) -> Iterator[AudioSource]:
    """Open an audio file, or the first audio track of a video.

    Raises:
        InputError: it is not audio, or its header makes no sense. The message names the file.
    """
    import soundfile

    from adapt.data.audio_av import open_av

    try:
        file = soundfile.SoundFile(_name(path))
    except soundfile.LibsndfileError as error:
        _refuse_empty(path)
        reason = error.error_string.strip().rstrip(".")
    except TypeError:  # raised by soundfile for .raw files, whose sample rate it does not know
        _refuse_empty(path)
        raise InputError(f"'{path}' has no header with its format. Convert it to WAV or FLAC.") from None
    else:
        # Some streamed files announce no length: libsndfile reads nothing from them, but FFmpeg reads them to the end.
        # libsndfile cannot seek in some codecs, such as GSM.
        with file:
            if 0 < file.frames < _UNKNOWN and file.seekable():
                check_rate(path, file.samplerate)
                yield SoundFileSource(path, file)
                return
        reason = "it contains no samples that libsndfile can read"
    source = open_av(path, reason)
    check_rate(path, source.rate)
    yield source


def _refuse_empty(path: Path) -> None:
    try:
        with open(path, "rb") as raw:
            empty = not raw.read(1)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}).") from None
    if empty:
        raise InputError(f"'{path}' is empty: it has 0 bytes. Copy or record it again.")


_UNKNOWN = (1 << 63) - 1  # libsndfile's length of a stream


def _name(path: Path) -> Any:
    return os.fsencode(path) if os.name == "posix" else path  # soundfile encodes no names that are not UTF-8


def check_rate(path: Path | str, rate: int) -> None:
    """Check the sample rate of a file. Raises InputError."""
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(f"'{path}' has a sample rate of {rate:,} Hz. Expected {RATES[0]:,} to {RATES[1]:,} Hz.")


@dataclass(frozen=True)
class SoundFileSource:
    """A file that libsndfile reads."""

    path: Path
    file: Any

    @property
    def rate(self) -> int:
        return self.file.samplerate

    @property
    def channels(self) -> int:
        return self.file.channels

    @property
    def frames(self) -> int | None:
        return self.file.frames

    @property
    def announced(self) -> float | None:
        return self.file.frames / self.file.samplerate

    def blocks(self, start: int, count: int) -> Iterator[np.ndarray]:
        import soundfile

        done, most = 0, max(1, BLOCK // self.channels)
        try:
            self.file.seek(start)
            # Damaged MP3 files can have more than they announce, and soundfile reads no further.
            while done < count and self.file.tell() < self.file.frames:
                block = self.file.read(min(most, count - done), dtype="float32", always_2d=True)
                if not len(block):
                    return
                done += len(block)
                yield block
        except soundfile.LibsndfileError as error:
            there = self._readable() / self.rate
            raise InputError(
                f"'{self.path}' is broken: only {there:.2f} s of the {self.announced:.2f} s that its header announces "
                f"can be read ({error.error_string.strip().rstrip('.')})."
            ) from None

    def _readable(self) -> int:
        # The samples before the first damage. A block that contains it is lost as a whole, so blocks are small here.
        import soundfile

        frames = 0
        try:
            with soundfile.SoundFile(_name(self.path)) as file:
                while file.tell() < file.frames and (block := len(file.read(256, dtype="float32"))):
                    frames += block
        except soundfile.LibsndfileError:
            pass
        return frames
