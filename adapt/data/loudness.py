"""How loud audio is over time, and where speech begins and ends by it."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from adapt.data.speech_detection import FRAME, SAMPLE_RATE

_HOP = 0.005  # seconds of a value
_SEARCHED = 0.3  # seconds around the detector's start and end of speech; it is late by up to 0.1 s
_ABOVE = 3.0  # speech is this much louder than the silence before and after it (10 dB)
_LOWEST, _HIGHEST = 0.01, 0.2  # of the loudness of speech: where it begins, if the silence is quiet enough
_LASTING = 6  # values in a row


class Measured:
    """Blocks of audio `(samples,)` at 16,000 Hz, whose duration and loudness are measured while they are read."""

    def __init__(self, blocks: Iterator[Tensor]) -> None:
        self._blocks, self._samples, self._kept = blocks, 0, np.zeros(0, np.float32)
        self._found: list[np.ndarray] = []

    def __iter__(self) -> Iterator[Tensor]:
        size = round(_HOP * SAMPLE_RATE)
        for block in self._blocks:
            self._samples += len(block)
            kept = np.concatenate([self._kept, block.numpy()])
            frames = kept[: len(kept) // size * size].reshape(-1, size)
            self._found.append(np.sqrt(np.square(frames, dtype=np.float64).mean(axis=1)))
            self._kept = kept[frames.size :]
            yield block

    @property
    def seconds(self) -> float:
        """The duration of the blocks that were read."""
        return self._samples / SAMPLE_RATE

    def loudness(self) -> np.ndarray:
        """Return the root mean square of each 5 ms that were read, `(values,)`."""
        return np.concatenate([np.zeros(0), *self._found])


def quietness(loudness: np.ndarray) -> np.ndarray:
    """Return the loudness of each frame of the detector, `(frames,)`, from 0 to 1.

    It is scaled so that a detector's threshold of silence is some 30 dB below the loud frames.
    """
    count = int(len(loudness) * _HOP / FRAME)
    if not count:
        return np.zeros(0)
    places = (np.arange(count) * FRAME / _HOP).astype(int)
    loud = float(np.percentile(loudness, 95))
    own = np.maximum.reduceat(loudness, places)
    return np.minimum(1.0, own / (0.1 * loud)) if loud else np.zeros(count)


def tightened(spans: Sequence[tuple[float, float]], loudness: np.ndarray) -> list[tuple[float, float]]:
    """Move the start and the end of speech to where it becomes louder than the silence around it.

    Args:
        spans: The spans of speech that a detector found, in seconds.
        loudness: The loudness of the whole recording (`Measured.loudness`).

    Returns:
        The spans. Where the silence is not at least 14 dB quieter than the speech, they stay as they are.
    """
    ends = [0.0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(loudness) * _HOP]
    found = []
    for number, (start, end) in enumerate(spans):
        loud = float(np.percentile(_part(loudness, start, end), 90)) if end - start >= _HOP else 0.0
        first = _edge(loudness, start, ends[number], loud, forward=True)
        last = _edge(loudness, end, starts[number + 1], loud, forward=False)
        found.append((first, max(last, first + _HOP)))
    return found


def _edge(loudness: np.ndarray, edge: float, other: float, loud: float, forward: bool) -> float:
    """Return where speech begins (`forward`) or ends near `edge`. Its silence reaches to `other`."""
    silence = _part(loudness, *((other + 0.1, edge - 0.1) if forward else (edge + 0.1, other - 0.1)))
    floor = float(np.percentile(silence, 20)) if len(silence) else 0.0
    limit = max(_ABOVE * floor, _LOWEST * loud)
    if limit > _HIGHEST * loud:
        return edge
    middle = (edge + other) / 2
    low = max(edge - _SEARCHED, middle if forward else 0.0, 0.0)
    high = min(edge + _SEARCHED, len(loudness) * _HOP if forward else middle)
    values = _part(loudness, low, high) > limit
    if len(values) < _LASTING:
        return edge
    lasting = np.lib.stride_tricks.sliding_window_view(values, _LASTING).all(axis=1)
    places = np.flatnonzero(lasting)
    if not len(places):
        return edge
    first = round(low / _HOP)
    return (first + (places[0] if forward else places[-1] + _LASTING)) * _HOP


def _part(loudness: np.ndarray, start: float, end: float) -> np.ndarray:
    return loudness[max(0, round(start / _HOP)) : max(0, round(end / _HOP))]
