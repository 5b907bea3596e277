"""Batches by total seconds or tokens, the same for the same seed and epoch, however often a run was interrupted."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from adapt.data.example import Example
from adapt.data.replay import Replay, draw_replayed, replayed
from adapt.errors import InputError


class Reader(Protocol):
    """How an example becomes what a network reads. It is small, for the processes that read ahead have a copy.

    `unit` is what lengths are counted in.
    """

    @property
    def unit(self) -> Literal["seconds", "tokens"]: ...

    def length(self, example: Any, /) -> float:
        """How much of a batch it fills, known without reading all of it."""

    def read(self, example: Any, /, speed: float = 1.0) -> Tensor:
        """What the network reads of it, `(time,)`; where it is audio, so much faster. Raises InputError."""


@dataclass
class Batch:
    """Examples read together.

    `inputs` is `(batch, time)`: samples in -1..1, float32, or tokens. It is zero past each example's end (the dots):

        first   ~~~~~~~~~~~~~~~~~
        second  ~~~~~~~~.........
        third   ~~~~~~~~~~~~.....

    `lengths` is `(batch,)`, in samples or tokens: where the dots begin.

    `stored` is what a cached prefix (`adapt/training/prefix.py`) once made of the examples, each `(batch, time, units)` and zero
    past each end; audio is then not read again, and `inputs` is `(batch, 0)`.
    """

    inputs: Tensor
    lengths: Tensor
    examples: list[Example]
    stored: tuple[Tensor, ...] | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from which a GPU copies faster."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        stored = None if self.stored is None else tuple(map(change, self.stored))
        return Batch(change(self.inputs), change(self.lengths), self.examples, stored)


class Stored(Protocol):
    """What a cached prefix made of an example at a speed: the example's length in samples or tokens, and tensors
    `(time, units)`.
    """

    def __getitem__(self, key: tuple[int, float]) -> tuple[int, tuple[Tensor, ...]]: ...


@dataclass(frozen=True)
class Loader:
    """How examples become batches.

    `batch_seconds` bounds a batch's padded length in seconds, for text `batch_tokens` in tokens of the longer side (one
    example that is longer makes a batch of its own). `speeds` are the factors of speed perturbation (Ko et al. 2015),
    one drawn per utterance and epoch while training; `[1.0]` switches it off. `workers` are processes that read ahead.
    """

    batch_seconds: float = 24.0
    batch_tokens: int = 1000
    speeds: Sequence[float] = (1.0,)
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        speeds = [self.speeds] if isinstance(self.speeds, (int, float, str)) else list(self.speeds)
        for name in ("batch_seconds", "batch_tokens", "workers"):
            value = getattr(self, name)
            if not _number(value) or value < 0 or (name == "workers" and not isinstance(value, int)):
                raise InputError(f"loader.{name} is a number of 0 or more; got {value!r}.")
        if not speeds or not all(_number(speed) and speed > 0 for speed in speeds):
            raise InputError(
                f"loader.speeds are numbers above 0, as [0.9,1.0,1.1], or [1.0] for none; got {self.speeds}."
            )
        object.__setattr__(self, "speeds", speeds)

    def training(
        self,
        examples: Sequence[Example],
        reader: Reader,
        source: Sequence[Example] = (),
        replay: Replay = 0.0,
        stored: Stored | None = None,
    ) -> DataLoader:
        """Shuffled batches of like lengths, anew each epoch, with as many of `source` among them as `replay` says
        (`adapt.data.replay`). Raises InputError where it cannot be had.

        Where a prefix is cached, `stored` has what it made of these examples, and of those of `source` behind them.
        """
        count = replayed(replay, len(examples), len(source))
        read = (*examples, *source) if count else examples
        return self._loader(read, reader, tuple(self.speeds), True, True, len(source) if count else 0, count, stored)

    def evaluation(self, examples: Sequence[Example], reader: Reader) -> DataLoader:
        """Every example once, as it is, longest first: what does not fit into memory fails at once."""
        return self._loader(examples, reader, (1.0,), shuffle=False, shared=False)

    def validation(self, examples: Sequence[Example], reader: Reader, stored: Stored | None = None) -> DataLoader:
        """As `evaluation`, shared out among the processes that train."""
        return self._loader(examples, reader, (1.0,), shuffle=False, shared=True, stored=stored)

    def once(
        self,
        examples: Sequence[Example],
        reader: Reader,
        pairs: Sequence[tuple[int, float]],
        rank: int = 0,
        ranks: int = 1,
    ) -> DataLoader:
        """Each `(example number, speed)` of `pairs` once, longest first; of `ranks` processes, the share of one."""
        lengths = [reader.length(examples[number]) / speed for number, speed in pairs]
        batches = [[pairs[n] for n, _ in batch] for batch in BatchesByLength(lengths, self._most(reader), False, 0)]
        return self._batches(_AtSpeeds(examples, reader), batches[rank::ranks])

    def _loader(
        self,
        examples: Sequence[Example],
        reader: Reader,
        speeds: tuple[float, ...],
        shuffle: bool,
        shared: bool,
        source: int = 0,
        count: int = 0,
        stored: Stored | None = None,
    ) -> DataLoader:
        if reader.unit == "tokens":
            speeds = (1.0,)
        # Slowed down, an utterance is longer; the bound holds for the slowest.
        lengths = [reader.length(example) / min(speeds) for example in examples]
        batches = BatchesByLength(lengths, self._most(reader), shuffle, self.seed, shared, source, count)
        return self._batches(_Examples(examples, reader, speeds, self.seed, stored), batches, self.workers > 0)

    def _most(self, reader: Reader) -> float:
        return self.batch_seconds if reader.unit == "seconds" else self.batch_tokens

    def _batches(self, dataset: Dataset, batches: Any, persistent: bool = False) -> DataLoader:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=persistent,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else every epoch would draw from, and so move, the global one
        )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class BatchesByLength(Sampler[list[tuple[int, int]]]):
    """Yields batches of `(example number, epoch)`, each padded to at most `most` of what `lengths` count.

    Where several processes train, each takes every n-th of those that are `shared`. All take the same count, for they
    wait for each other: where batches are lacking in the last round, the first ones come again.

    Of the last `source` examples an epoch has `count`, drawn anew each time (`draw_replayed`), and of the others all.
    """

    def __init__(
        self,
        lengths: Sequence[float],
        most: float,
        shuffle: bool,
        seed: int,
        shared: bool = False,
        source: int = 0,
        count: int = 0,
    ) -> None:
        self.lengths, self.most, self.shuffle, self.seed = lengths, most, shuffle, seed
        self.shared, self.source, self.count = shared, source, count
        self.epoch = 0

    @property
    def sampler(self) -> "BatchesByLength":
        """Lightning looks for `set_epoch` on a batch sampler's sampler, not on the batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, also on the first one after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self._batches():
            yield [(number, self.epoch) for number in batch]

    def _batches(self) -> list[list[int]]:
        draw = random.Random(f"{self.seed}/{self.epoch}")
        # Examples whose lengths round up to the same level change places freely from one epoch to the next, and the
        # levels alone decide where a batch ends: Lightning counts an epoch's batches once, so their number must stay.
        lengths = [_level(length) if self.shuffle else length for length in self.lengths]
        first = len(lengths) - self.source
        again = [first + number for number in draw_replayed(lengths[first:], self.count, self.seed, self.epoch)]
        ties = [(-lengths[n], draw.random() if self.shuffle else 0.0, n) for n in (*range(first), *again)]
        batches: list[list[int]] = []
        longest = 0.0
        for _, _, number in sorted(ties):
            if batches and longest * (len(batches[-1]) + 1) <= self.most:
                batches[-1].append(number)
            else:
                batches.append([number])
                longest = lengths[number]  # the first of a batch, for they come longest first
        if self.shuffle:
            draw.shuffle(batches)
        if self.shared and torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
            batches = [batches[i % len(batches)] for i in range(-(-len(batches) // ranks) * ranks)][rank::ranks]
        return batches


def _level(length: float) -> float:
    return 1.1 ** math.ceil(math.log(max(length, 0.01), 1.1))


def speed_of(seed: int, epoch: int, number: int, speeds: Sequence[float]) -> float:
    """The speed at which an example is heard in an epoch."""
    return random.Random(f"{seed}/{epoch}/{number}").choice(tuple(speeds))


class _Examples(Dataset):
    def __init__(
        self,
        examples: Sequence[Example],
        reader: Reader,
        speeds: tuple[float, ...],
        seed: int,
        stored: Stored | None = None,
    ) -> None:
        self.examples, self.reader, self.speeds, self.seed, self.stored = examples, reader, speeds, seed, stored

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: tuple[int, int]) -> "Item":
        number, epoch = key
        example, speed = self.examples[number], speed_of(self.seed, epoch, number, self.speeds)
        if self.stored is None:
            return example, self.reader.read(example, speed)
        length, made = self.stored[number, speed]
        read = torch.zeros(0) if self.reader.unit == "seconds" else self.reader.read(example)
        return example, read, length, made


class _AtSpeeds(Dataset):
    def __init__(self, examples: Sequence[Example], reader: Reader) -> None:
        self.examples, self.reader = examples, reader

    def __getitem__(self, key: tuple[int, float]) -> "Item":
        number, speed = key
        return self.examples[number], self.reader.read(self.examples[number], speed)


# An example and what was read of it; where a prefix is cached, also its length and what is stored of it.
Item = tuple[Example, Tensor] | tuple[Example, Tensor, int, tuple[Tensor, ...]]


def collate(items: Sequence[Item]) -> Batch:
    """Pad `(time,)` waveforms or tokens with zeros into one batch, and with them what is stored."""
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    inputs, examples = pad([item[1] for item in items]), [item[0] for item in items]
    if len(items[0]) == 2:
        return Batch(inputs, torch.tensor([len(item[1]) for item in items]), examples)
    stored = tuple(pad(list(parts)) for parts in zip(*(item[3] for item in items), strict=True))
    return Batch(inputs, torch.tensor([item[2] for item in items]), examples, stored)
