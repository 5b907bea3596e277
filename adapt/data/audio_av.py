"""Read with FFmpeg (PyAV) what libsndfile cannot read: M4A, MP4, AAC, WEBM, WMA, AMR, 3GP, and the sound of videos."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapt.errors import InputError

# Containers of recordings. FFmpeg also knows playlists and scripts, which would open other files.
_CONTAINERS = (
    "3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,eac3,flac,flv,gsm,loas,m4a,matroska,mov,mp3,mp4,mpc,mpc8,"
    "mpeg,mpegts,nut,oga,ogg,rm,sox,tak,tta,voc,w64,wav,webm,wv"
)
# Containers whose announced duration is that of the audio track, if the file was written to its end.
_WITH_DURATION = ("mov", "matroska", "asf", "tta", "wv", "ape")
_FAR = 10.0  # seconds from which on a seek is faster than decoding everything before it
_SEEKS = ("mov", "matroska")  # in the others, FFmpeg estimates the place from the bit rate
_GAP = 0.01  # seconds; a larger difference of time stamps is a gap. Matroska rounds them to 1 ms.
_PREROLL = 1.0  # seconds that are decoded before the first sample after a seek, so that the codec is in step
_SILENCE = 1 << 16  # frames of a block of silence


def open_av(path: Path, reason: str) -> "AVSource":
    """Look into a file's first audio track. `reason` tells why libsndfile cannot read the file, for the message.

    Raises:
        InputError: FFmpeg cannot read it either, or it has no audio track.
    """
    from av.error import FFmpegError

    try:
        with _opened(path) as (container, track):
            if track is None:
                raise InputError(f"'{path}' has no audio track.")
            if track.codec_context is None:
                raise InputError(f"'{path}' cannot be read as audio ({reason}; FFmpeg does not know its codec).")
            # HE-AAC tells its true rate and channels only when it is decoded.
            first = next(_frames(container, track), None)
            if first is None or not first.sample_rate:
                raise InputError(f"'{path}' cannot be read as audio ({reason}; its audio track has no samples).")
            return AVSource(path, first.sample_rate, first.layout.nb_channels, _announced(container, track))
    except FFmpegError as error:
        raise InputError(f"'{path}' cannot be read as audio ({reason}; FFmpeg: {error.strerror}).") from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    import av

    # An open file instead of a path: FFmpeg would take "take 12:30.m4a" for an address.
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    with _File(path) as raw, av.open(raw, options=options, metadata_errors="replace") as container:
        yield container, container.streams.best("audio")


class _File(io.FileIO):
    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError:  # a damaged header sends FFmpeg beyond any file; to it, -1 is a failed seek
            return -1


def _announced(container: Any, track: Any) -> float | None:
    if not container.format.name.startswith(_WITH_DURATION):
        return None
    if track.duration is not None:
        return float(track.duration * track.time_base) + _start(container, track)
    # Matroska says when each track ends: 00:00:02.010000000
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", track.metadata.get("DURATION", ""), re.ASCII)
    if tag is not None:
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    alone = len(container.streams) == 1
    return container.duration / 1e6 if alone and container.duration is not None else None


def _start(container: Any, track: Any) -> float:
    # Seconds from the start of a video to the start of its sound; 0 for audio alone.
    import av

    if not container.streams.video or container.start_time is None or track.start_time is None:
        return 0.0
    return max(0.0, float(track.start_time * track.time_base) - container.start_time / av.time_base)


@dataclass(frozen=True)
class AVSource:
    """A file that FFmpeg reads (see `adapt.data.audio_file.AudioSource`).

    Encoder delay is removed where the container states it, as players do. Time starts at the first sample; in a video,
    it starts where the video does, so an `offset` means the same as in a player. Gaps between time stamps, such as
    packets lost in a call, are filled with silence, so everything after them keeps its time.
    """

    path: Path
    rate: int
    channels: int
    announced: float | None

    @property
    def frames(self) -> int | None:
        return None

    def blocks(self, start: int, count: int) -> Iterator[np.ndarray]:
        end = start + count
        for position, frames, samples in self._pieces(start, end):
            first, last = max(start, position), min(end, position + frames)
            if samples is not None and first < last:
                yield samples[first - position : last - position]
            elif samples is None:
                for piece in range(first, last, _SILENCE):
                    yield np.zeros((min(_SILENCE, last - piece), self.channels), np.float32)

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int, np.ndarray | None]]:
        # Yields (position, frames, samples) up to `end`, with None as the samples of a gap.
        with _opened(self.path) as (container, track):
            origin, position = self._origin(container, track, start)
            for time, samples in self._decoded(container, track):
                if origin is None:  # audio alone starts at its first sample
                    origin = time or 0.0
                at = position if time is None else round((time - origin) * self.rate)
                position = at if position is None else position  # not yet known after a seek
                if at is not None and position is not None and at - position > _GAP * self.rate:
                    yield position, at - position, None
                    position = at
                position = position or 0
                yield position, len(samples), samples
                position += len(samples)
                if position >= end:
                    return

    def _origin(self, container: Any, track: Any, start: int) -> tuple[float | None, int | None]:
        # The time stamp of the start in seconds, and the position of the next sample; None if not yet known.
        import av

        begin = container.start_time
        origin = begin / av.time_base if container.streams.video and begin is not None else None
        if start < _FAR * self.rate or not container.format.name.startswith(_SEEKS):
            return origin, 0
        if origin is None:
            origin = next((time for time, _ in self._decoded(container, track) if time is not None), 0.0)
        target = origin + start / self.rate - _PREROLL
        container.seek(int(target / track.time_base), stream=track, backward=True)
        return origin, None

    def _decoded(self, container: Any, track: Any) -> Iterator[tuple[float | None, np.ndarray]]:
        # Yields the time stamp in seconds and the samples `(frames, channels)` of each decoded frame.
        from av.error import FFmpegError

        done = 0
        try:
            for frame in _frames(container, track):
                if frame.sample_rate != self.rate or frame.layout.nb_channels != self.channels:
                    raise InputError(
                        f"'{self.path}' changes its sample rate or its channels after {done / self.rate:.2f} s. "
                        "Convert it to WAV or FLAC."
                    )
                done += frame.samples
                yield frame.time, _as_floats(frame)
        except FFmpegError as error:
            raise InputError(
                f"'{self.path}' is broken: it cannot be decoded after {done / self.rate:.2f} s ({error.strerror})."
            ) from None


def _frames(container: Any, track: Any) -> Iterator[Any]:
    from av.error import InvalidDataError

    begun = False
    for packet in container.demux(track):
        try:
            frames = packet.decode()
        except InvalidDataError:
            if begun:
                raise
            continue  # the recording starts in the middle of a packet
        begun = begun or bool(frames)
        yield from frames


def _as_floats(frame: Any) -> np.ndarray:
    values = frame.to_ndarray()  # (channels, frames), or (1, frames * channels) if the channels are interleaved
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind == "u":
        return (values.T.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return values.T.astype(np.float32) / np.float32(1 << (8 * values.dtype.itemsize - 1))
    return values.T.astype(np.float32)
