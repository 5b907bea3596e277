"""Audio and video files for tests, encoded with PyAV."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest


def chirp(seconds: float, rate: int) -> np.ndarray:
    """Return a tone that rises from 200 Hz, with a changing loudness: every moment of it is different."""
    time = np.arange(round(seconds * rate)) / rate
    loudness = 0.5 + 0.4 * np.sin(2 * np.pi * 3 * time)
    return (0.4 * loudness * np.sin(2 * np.pi * (200 * time + 150 * time**2))).astype(np.float32)


def encode(
    path: Path,
    codec: str,
    container: str,
    samples: np.ndarray,
    rate: int,
    lost: Collection[int] = (),
    video: bool = False,
    delay: float = 0.0,
    bit_rate: int = 64_000,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode samples `(frames,)` or `(channels, frames)`, and return the path. Skips the test if a codec is missing.

    Args:
        path: The file to write.
        codec: FFmpeg's name of the encoder.
        container: FFmpeg's name of the format.
        samples: The samples, from -1 to 1.
        rate: The sample rate in Hz.
        lost: The numbers of the packets that are not written.
        video: Whether to add a track of pictures.
        delay: When the sound starts, in seconds.
        bit_rate: Bits per second.
        options: Further options of the format.
    """
    try:
        av.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this build of PyAV cannot write {codec}")
    samples = np.atleast_2d(samples)
    layout: Any = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        pictures: Any = file.add_stream("mpeg4", rate=25) if video else None
        stream: Any = file.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = bit_rate
        if video:
            pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
            for number in range(round(25 * (delay + samples.shape[1] / rate))):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                picture.pts = number
                file.mux(pictures.encode(picture))
            file.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, round(delay * rate)
        packets = [*stream.encode(frame), *stream.encode(None)]
        for number, packet in enumerate(packets):
            if number not in lost:
                file.mux(packet)
    return path
