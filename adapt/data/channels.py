"""Mix channels to mono by their mean, except where they cancel each other out."""

from collections.abc import Callable, Iterable

import numpy as np

_LEAST = 0.25  # of the power that the mean of unrelated channels has; two equal channels then correlate by -0.75


def mix(read: Callable[[], Iterable[np.ndarray]]) -> tuple[np.ndarray, int | None]:
    """Mix blocks of audio to mono.

    The mean of C unrelated channels has 1/C² of their total power, so the two speakers of a telephone call, or one
    speaker on one of the channels, both stay in the mean. If the mean has less than a quarter of that, channels are
    in antiphase (one of them was connected the wrong way round). The loudest channel (of equals within 1 %, the
    first) replaces the mean then. Power is measured without a constant offset.

    Args:
        read: Returns the blocks, each `(frames, channels)` float32. It is called again if a channel must be picked.

    Returns:
        The mono audio `(frames,)` float32, and the number of the channel that replaces the mean, from 0; None if it is
        the mean.
    """
    power = _Power()
    means = []
    for block in read():
        with np.errstate(all="ignore"):  # samples that are not finite are reported by the caller
            means.append(block.mean(axis=1))
        power.add(block, means[-1])
    channel = power.channel_instead()
    if channel is not None:
        means = [block[:, channel].copy() for block in read()]
    return (means[0] if len(means) == 1 else np.concatenate([np.zeros(0, np.float32), *means])), channel


def channel_instead(blocks: Iterable[np.ndarray]) -> int | None:
    """Return the number of the channel that replaces the mean, as `mix` does; None if it is the mean."""
    power = _Power()
    for block in blocks:
        with np.errstate(all="ignore"):
            power.add(block, block.mean(axis=1))
    return power.channel_instead()


class _Power:
    """The power of the channels and, as the last value, of their mean."""

    def __init__(self) -> None:
        self.frames, self.sums, self.squares = 0, np.zeros(1), np.zeros(1)

    def add(self, block: np.ndarray, mean: np.ndarray) -> None:
        if block.shape[1] == 1:
            return
        with np.errstate(all="ignore"):
            values = np.concatenate([block, mean[:, None]], axis=1).astype(np.float64)
            self.sums, self.squares = self.sums + values.sum(axis=0), self.squares + (values**2).sum(axis=0)
        self.frames += len(block)

    def channel_instead(self) -> int | None:
        if not self.frames:
            return None
        with np.errstate(all="ignore"):
            power = self.squares - self.sums**2 / self.frames
        channels, mean = power[:-1], power[-1]
        too_quiet = mean < _LEAST * channels.sum() / len(channels) ** 2
        # Rounding makes one of two equal channels louder by chance.
        return int((channels >= 0.99 * channels.max()).argmax()) if too_quiet else None
