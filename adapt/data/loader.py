"""Batches bounded in seconds or tokens. They depend on seed and epoch only, so a resumed run gets the same ones."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adapt.checks import check_type
from adapt.data.batches import BatchesByLength
from adapt.data.example import Example
from adapt.data.loader_options import check_loader, list_of
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.data.replay import Replay, replay_count
from adapt.data.unread import CollateRead, Failed, NamingLoader, ReadOrFailed, Unread

SECONDS = 24.0  # the default bound on a batch of audio
WINDOWS = 8  # the default bound on a batch for a network that pads every utterance to a window


class Reader(Protocol):
    """Turns an example into the input of a network. Each worker process gets a copy, so a reader must be small.

    `unit` is the unit in which `length` measures examples. `window` is the length to which the network pads every
    example, in the same unit (30 s for Whisper); None if it pads to the longest example of the batch.
    """

    @property
    def unit(self) -> Literal["seconds", "tokens"]: ...

    @property
    def window(self) -> float | None: ...

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

    `unread` names the examples that belong to the batch and could not be read.
    """

    inputs: Tensor
    lengths: Tensor
    examples: list[Example]
    stored: tuple[Tensor, ...] | None = None
    unread: tuple[Failed, ...] = ()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Return the batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, which copies faster to a GPU."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        stored = None if self.stored is None else tuple(map(function, self.stored))
        return Batch(function(self.inputs), function(self.lengths), self.examples, stored, self.unread)


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
        batch_seconds: the largest padded length of a batch of audio, in seconds, as the network reads it: an utterance
            of Whisper counts as its window of 30 s. A longer example becomes a batch of its own. None for 24 s, or for
            8 windows.
        batch_tokens: the same for text, in tokens of the longer side (source or target).
        batch_size: the largest number of examples of a batch, besides; None for no such bound.
        memory: the most memory that a batch may take, in GB (10^9 bytes), besides; None for no such bound
            (`adapt.models.batch_memory`).
        speeds: the factors of speed perturbation (Ko et al. 2015). In training, one is drawn per utterance and epoch;
            `[1.0]` switches the perturbation off. An utterance that does not fit the model at some of them is drawn
            from the others (`adapt.data.splits.check_examples`).
        workers: the number of processes that read ahead.
        seed: the seed for the order of batches and for the speeds.

    Raises:
        InputError: a value is not a number, or is out of range.
    """

    batch_seconds: float | None = None
    batch_tokens: int = 1000
    batch_size: int | None = None
    speeds: Sequence[float] = (1.0,)
    workers: int = 0
    seed: int = 0
    memory: float | None = None

    def __post_init__(self) -> None:
        check_loader(
            batch_seconds=self.batch_seconds, batch_tokens=self.batch_tokens, batch_size=self.batch_size,
            speeds=self.speeds, workers=self.workers, memory=self.memory,
        )  # fmt: skip
        object.__setattr__(self, "speeds", list_of(self.speeds))

    def training(
        self,
        examples: Sequence[Example],
        reader: Reader,
        source: Sequence[Example] = (),
        replay: Replay = 0.0,
        stored: Stored | None = None,
        unread: Unread | None = None,
    ) -> DataLoader:
        """Return shuffled batches of examples of similar lengths, in a new order each epoch.

        Args:
            examples: the examples to train on; each is read once per epoch.
            reader: the model's reader.
            source: the source examples, for replay.
            replay: how many source examples each epoch reads: their share of the epoch, or "all"
                (`adapt.data.replay.replay_count`).
            stored: the cached activations for `examples` followed by `source`, if there are any.
            unread: what to do about examples that cannot be read; None to stop. They are left out of their batch. If
                nothing is left of it, it gets the next example that can be read, because every epoch has the same
                number of batches. All this depends on the data and the epoch only, so that a resumed run does the same.

        Raises:
            InputError: `replay` is not a share or "all", or asks for source examples but there are none; and while
                batches are read, if an example cannot be read.
        """
        count = replay_count(replay, len(examples), len(source))
        read = (*examples, *source) if count else examples
        return self._loader(
            read, reader, tuple(self.speeds), True, True, len(source) if count else 0, count, stored, unread
        )

    def evaluation(self, examples: Sequence[Example], reader: Reader) -> DataLoader:
        """Return batches of all examples, unchanged, longest first: if memory is too small, the first batch fails."""
        return self._loader(examples, reader, (1.0,), shuffle=False, shared=False)

    def validation(
        self,
        examples: Sequence[Example],
        reader: Reader,
        stored: Stored | None = None,
        unread: Unread | None = None,
    ) -> DataLoader:
        """Return the same batches as `evaluation`, split among the training processes.

        Args:
            examples: the examples to read.
            reader: the model's reader.
            stored: the cached activations for `examples`, if there are any.
            unread: what to do about examples that cannot be read; None to stop. They are left out of their batch, which
                may become empty.
        """
        return self._loader(examples, reader, (1.0,), shuffle=False, shared=True, stored=stored, unread=unread)

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
            for batch in BatchesByLength(
                lengths, self.bound(reader), False, 0, most=self.batch_size, window=reader.window
            )
        ]
        return self._batches(ReadOrFailed(_AtSpeeds(examples, reader), replaces=False), batches[rank::ranks])

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
        unread: Unread | None = None,
    ) -> DataLoader:
        if reader.unit == "tokens":
            speeds = (1.0,)
        # An utterance is longest at the slowest speed, so the bound on batches is applied to that length.
        lengths = [reader.length(example) / min(speeds) for example in examples]
        batches = BatchesByLength(
            lengths, self.bound(reader), shuffle, self.seed, shared, source, count, self.batch_size, reader.window
        )
        data = ReadOrFailed(_Examples(examples, reader, speeds, self.seed, stored), replaces=shuffle)
        return self._batches(data, batches, self.workers > 0, unread)

    def bound(self, reader: Reader) -> float:
        """Return the largest padded length of a batch, in the reader's unit."""
        if reader.unit == "tokens":
            return self.batch_tokens
        if self.batch_seconds is not None:
            return self.batch_seconds
        return SECONDS if reader.window is None else WINDOWS * reader.window

    def bounded(self, reader: Reader, most: float) -> "Loader":
        """Return this loader with batches of a padded length of at most `most`, in the reader's unit, besides."""
        bound = min(self.bound(reader), most)
        return replace(self, batch_tokens=int(bound)) if reader.unit == "tokens" else replace(self, batch_seconds=bound)

    def _batches(
        self, dataset: ReadOrFailed, batches: Any, persistent: bool = False, unread: Unread | None = None
    ) -> DataLoader:
        return NamingLoader(
            unread,
            dataset,
            batch_sampler=batches,
            collate_fn=CollateRead(collate),
            num_workers=self.workers,
            persistent_workers=persistent,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # without one, each epoch would draw from the global generator
        )


def as_loader(loader: Any) -> Loader:
    """Return a caller's loader, or the default one for None. Raises InputError for anything else."""
    check_type("loader", loader, (Loader, type(None)), "Give Loader(batch_seconds=24), say, or None for the default.")
    return loader or Loader()


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
    if not items:
        return Batch(torch.zeros(0, 0), torch.zeros(0, dtype=torch.long), [])
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    inputs, examples = pad([item[1] for item in items]), [item[0] for item in items]
    with_stored = [item for item in items if len(item) == 4]
    if not with_stored:
        return Batch(inputs, torch.tensor([len(item[1]) for item in items]), examples)
    stored = tuple(pad(list(tensors)) for tensors in zip(*(item[3] for item in with_stored), strict=True))
    return Batch(inputs, torch.tensor([item[2] for item in with_stored]), examples, stored)
