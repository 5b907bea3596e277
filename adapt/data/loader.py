"""Batches bounded in seconds or tokens. They depend on seed and epoch only, so a resumed run gets the same ones."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from adapt.checks import check_count, check_number, check_type, is_number
from adapt.data.example import Example
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.data.replay import Replay, draw_replay, replay_count
from adapt.errors import InputError

SLOWEST, FASTEST = 0.25, 4.0  # the limits of speed perturbation: beyond, speech is not speech any more


class Reader(Protocol):
    """Turns an example into the input of a network. Each worker process gets a copy, so a reader must be small.

    `unit` is the unit in which `length` measures examples.
    """

    @property
    def unit(self) -> Literal["seconds", "tokens"]: ...

    def length(self, example: Any, /) -> float:
        """Return the example's length in `unit`, without reading all of it."""
        ...

    def read(self, example: Any, /, speed: float = 1.0) -> Tensor:
        """Return the input, `(time,)`; audio is sped up by the factor `speed`. Raises InputError if it is unusable."""
        ...


@dataclass
class Batch:
    """A batch of examples.

    `inputs` is `(batch, time)`: float32 samples from -1 to 1, or tokens. Shorter examples are padded with zeros (dots):

        first   ~~~~~~~~~~~~~~~~~
        second  ~~~~~~~~.........
        third   ~~~~~~~~~~~~.....

    `lengths` is `(batch,)`, in samples or tokens: the lengths without the padding.

    `stored` has the cached activations of the model's frozen lower layers (`adapt.training.prefix`), each
    `(batch, time, units)` and padded with zeros. With them, audio is not read again, and `inputs` is `(batch, 0)`.
    """

    inputs: Tensor
    lengths: Tensor
    examples: list[Example]
    stored: tuple[Tensor, ...] | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Return the batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, which copies faster to a GPU."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        stored = None if self.stored is None else tuple(map(function, self.stored))
        return Batch(function(self.inputs), function(self.lengths), self.examples, stored)


class Stored(Protocol):
    """The cached activations of the model's frozen lower layers (its prefix).

    The key (example number, speed) gives the example's length in samples or tokens, and its activations
    `(time, units)`.
    """

    def __getitem__(self, key: tuple[int, float]) -> tuple[int, tuple[Tensor, ...]]: ...


@dataclass(frozen=True)
class Loader:
    """Makes batches of examples.

    Args:
        batch_seconds: the largest padded length of a batch of audio, in seconds. A longer example becomes a batch of
            its own.
        batch_tokens: the same for text, in tokens of the longer side (source or target).
        batch_size: the largest number of examples of a batch, besides; None for no such bound.
        speeds: the factors of speed perturbation (Ko et al. 2015). In training, one is drawn per utterance and epoch;
            `[1.0]` switches the perturbation off. An utterance that does not fit the model at some of them is drawn
            from the others (`adapt.data.splits.check_examples`).
        workers: the number of processes that read ahead.
        seed: the seed for the order of batches and for the speeds.

    Raises:
        InputError: a value is not a number, or is out of range.
    """

    batch_seconds: float = 24.0
    batch_tokens: int = 1000
    batch_size: int | None = None
    speeds: Sequence[float] = (1.0,)
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("batch_seconds", self.batch_seconds, minimum=0)
        check_number("batch_tokens", self.batch_tokens, minimum=0)
        check_count("workers", self.workers)
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size, 1)
        speeds: list[Any] = [self.speeds] if isinstance(self.speeds, (int, float, str)) else list(self.speeds)
        if not speeds or not all(is_number(speed) and SLOWEST <= speed <= FASTEST for speed in speeds):
            raise InputError(
                f"speeds must be numbers from {SLOWEST} to {FASTEST}, such as [0.9, 1.0, 1.1], or [1.0] for none; got "
                f"{self.speeds}."
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
        """Return shuffled batches of examples of similar lengths, in a new order each epoch.

        Args:
            examples: the examples to train on; each is read once per epoch.
            reader: the model's reader.
            source: the source examples, for replay.
            replay: how many source examples each epoch reads: their share of the epoch, or "all"
                (`adapt.data.replay.replay_count`).
            stored: the cached activations for `examples` followed by `source`, if there are any.

        Raises:
            InputError: `replay` is not a share or "all", or asks for source examples but there are none.
        """
        count = replay_count(replay, len(examples), len(source))
        read = (*examples, *source) if count else examples
        return self._loader(read, reader, tuple(self.speeds), True, True, len(source) if count else 0, count, stored)

    def evaluation(self, examples: Sequence[Example], reader: Reader) -> DataLoader:
        """Return batches of all examples, unchanged, longest first: if memory is too small, the first batch fails."""
        return self._loader(examples, reader, (1.0,), shuffle=False, shared=False)

    def validation(self, examples: Sequence[Example], reader: Reader, stored: Stored | None = None) -> DataLoader:
        """Return the same batches as `evaluation`, split among the training processes.

        Args:
            examples: the examples to read.
            reader: the model's reader.
            stored: the cached activations for `examples`, if there are any.
        """
        return self._loader(examples, reader, (1.0,), shuffle=False, shared=True, stored=stored)

    def once(
        self,
        examples: Sequence[Example],
        reader: Reader,
        pairs: Sequence[tuple[int, float]],
        rank: int = 0,
        ranks: int = 1,
    ) -> DataLoader:
        """Return batches that contain each `(example number, speed)` of `pairs` once, longest first.

        Args:
            examples: the examples to read.
            reader: the model's reader.
            pairs: which example to read at which speed.
            rank: the rank of this process, from 0. The process gets every `ranks`-th batch.
            ranks: the number of processes.
        """
        lengths = [reader.length(examples[number]) / speed for number, speed in pairs]
        batches = [
            [pairs[n] for n, _ in batch]
            for batch in BatchesByLength(lengths, self._bound(reader), False, 0, most=self.batch_size)
        ]
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
        # An utterance is longest at the slowest speed, so the bound on batches is applied to that length.
        lengths = [reader.length(example) / min(speeds) for example in examples]
        batches = BatchesByLength(
            lengths, self._bound(reader), shuffle, self.seed, shared, source, count, self.batch_size
        )
        return self._batches(_Examples(examples, reader, speeds, self.seed, stored), batches, self.workers > 0)

    def _bound(self, reader: Reader) -> float:
        return self.batch_seconds if reader.unit == "seconds" else self.batch_tokens

    def _batches(self, dataset: Dataset, batches: Any, persistent: bool = False) -> DataLoader:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=persistent,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # without one, each epoch would draw from the global generator
        )


def as_loader(loader: Any) -> Loader:
    """Return a caller's loader, or the default one for None. Raises InputError for anything else."""
    check_type("loader", loader, (Loader, type(None)), "Give Loader(batch_seconds=24), say, or None for the default.")
    return loader or Loader()


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
    ) -> None:
        self.most = math.inf if most is None else most
        self.lengths, self.bound, self.shuffle, self.seed = lengths, bound, shuffle, seed
        self.shared, self.source, self.count = shared, source, count
        self.epoch = 0

    @property
    def sampler(self) -> "BatchesByLength":
        """Itself: Lightning looks for `set_epoch` on the `sampler` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch. Lightning calls this before each epoch, also before the first one after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self._batches():
            yield [(number, self.epoch) for number in batch]

    def _batches(self) -> list[list[int]]:
        batches = self.every()
        if self.shared and torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
            batches = [batches[i % len(batches)] for i in range(-(-len(batches) // ranks) * ranks)][rank::ranks]
        return batches

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
            if size <= self.most and longest * size <= self.bound:
                batches[-1].append(number)
            else:
                batches.append([number])
                longest = lengths[number]  # the first example of a batch is the longest
        if self.shuffle:
            draw.shuffle(batches)
        return batches


def _level(length: float) -> float:
    return 1.1 ** math.ceil(math.log(max(length, 0.01), 1.1))


def speed_of(seed: int, epoch: int, number: int, speeds: Sequence[float]) -> float:
    """Return the speed at which an example is read in an epoch."""
    return random.Random(f"{seed}/{epoch}/{number}").choice(tuple(speeds))


def fitting_speeds(example: Example, speeds: Sequence[float]) -> tuple[float, ...]:
    """Return those of `speeds` at which the example may be drawn: all, unless a check found that some do not fit."""
    own = example.speeds if isinstance(example, (Utterance, Recording)) else None
    return tuple(speeds) if own is None else tuple(speed for speed in speeds if speed in own) or (1.0,)


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
        example = self.examples[number]
        speed = speed_of(self.seed, epoch, number, fitting_speeds(example, self.speeds))
        if self.stored is None:
            return example, self.reader.read(example, speed)
        length, activations = self.stored[number, speed]
        inputs = torch.zeros(0) if self.reader.unit == "seconds" else self.reader.read(example)
        return example, inputs, length, activations


class _AtSpeeds(Dataset):
    def __init__(self, examples: Sequence[Example], reader: Reader) -> None:
        self.examples, self.reader = examples, reader

    def __getitem__(self, key: tuple[int, float]) -> "Item":
        number, speed = key
        return self.examples[number], self.reader.read(self.examples[number], speed)


# An example and its input; with cached activations also its length and these activations.
Item = tuple[Example, Tensor] | tuple[Example, Tensor, int, tuple[Tensor, ...]]


def collate(items: Sequence[Item]) -> Batch:
    """Make a batch: pad the inputs `(time,)`, and the cached activations if there are any, with zeros."""
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    inputs, examples = pad([item[1] for item in items]), [item[0] for item in items]
    with_stored = [item for item in items if len(item) == 4]
    if not with_stored:
        return Batch(inputs, torch.tensor([len(item[1]) for item in items]), examples)
    stored = tuple(pad(list(tensors)) for tensors in zip(*(item[3] for item in with_stored), strict=True))
    return Batch(inputs, torch.tensor([item[2] for item in with_stored]), examples, stored)
