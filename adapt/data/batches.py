"""Which examples a batch has: batches are bounded by their padded length, which is what they cost."""

import math
import random
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from adapt.data.replay import draw_replay


class BatchesByLength(Sampler[list[tuple[int, int]]]):
    """Yields batches of `(example number, epoch)` with examples of similar lengths.

    Args:
        lengths: the lengths of the examples.
        bound: the largest padded length of a batch, in the unit of `lengths`.
        shuffle: whether to shuffle anew in each epoch; if not, batches come longest first.
        seed: the seed for the order.
        shared: whether the batches are split among the training processes. All get the same number, because they wait
            for each other; if the batches do not divide evenly, the first ones are repeated.
        source: the number of source examples, for replay, at the end of `lengths`.
        count: how many source examples an epoch reads (`adapt.data.replay.draw_replay`). All other examples come once.
        most: the largest number of examples of a batch; None for no such bound.
        window: the length to which the network pads every example, in the unit of `lengths`; None if it pads to the
            longest of the batch.
    """

    def __init__(
        self,
        lengths: Sequence[float],
        bound: float,
        shuffle: bool,
        seed: int,
        shared: bool = False,
        source: int = 0,
        count: int = 0,
        most: int | None = None,
        window: float | None = None,
    ) -> None:
        self.most = math.inf if most is None else most
        self.lengths, self.bound, self.shuffle, self.seed = lengths, bound, shuffle, seed
        self.shared, self.source, self.count, self.window = shared, source, count, window
        self.epoch = self.first = 0

    @property
    def sampler(self) -> "BatchesByLength":
        """Itself: Lightning looks for `set_epoch` on the `sampler` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch. Lightning calls this before each epoch, also before the first one after a resume."""
        self.epoch = epoch

    def skip(self, count: int) -> None:
        """Leave out the first `count` batches of the next epoch, which an interrupted run trained on before."""
        self.first = count

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first, self.first = self.first, 0
        for batch in self._batches()[first:]:
            yield [(number, self.epoch) for number in batch]

    def _batches(self) -> list[list[int]]:
        batches = self.every()
        if self.shared and torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
            batches = [batches[i % len(batches)] for i in range(-(-len(batches) // ranks) * ranks)][rank::ranks]
        return batches

    def size(self, numbers: Sequence[int]) -> float:
        """Return the padded length of a batch of these examples, in the unit of `lengths`."""
        return self._padded(max(self.lengths[number] for number in numbers)) * len(numbers)

    def _padded(self, longest: float) -> float:
        return longest if self.window is None else self.window

    def every(self) -> list[list[int]]:
        """Return the example numbers of each batch of the current epoch, over all processes."""
        draw = random.Random(f"{self.seed}/{self.epoch}")
        # Lengths are rounded up to levels. Examples of one level are shuffled, but batch sizes depend on the levels
        # only. So every epoch has the same number of batches, which Lightning needs, as it counts them only once.
        lengths = [_level(length) if self.shuffle else length for length in self.lengths]
        first = len(lengths) - self.source
        replay = [first + number for number in draw_replay(lengths[first:], self.count, self.seed, self.epoch)]
        keys = [(-lengths[n], draw.random() if self.shuffle else 0.0, n) for n in (*range(first), *replay)]
        batches: list[list[int]] = []
        longest = 0.0
        for _, _, number in sorted(keys):
            size = len(batches[-1]) + 1 if batches else math.inf
            if size <= self.most and self._padded(longest) * size <= self.bound:
                batches[-1].append(number)
            else:
                batches.append([number])
                longest = lengths[number]  # the first example of a batch is the longest
        if self.shuffle:
            draw.shuffle(batches)
        return batches


def _level(length: float) -> float:
    return 1.1 ** math.ceil(math.log(max(length, 0.01), 1.1))
