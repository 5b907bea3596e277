"""Batches by total seconds, the same for the same seed and epoch, however often a run was interrupted."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from adapt.data.audio import read_audio, resample
from adapt.data.manifest import Utterance


@dataclass
class Batch:
    """Utterances read together.

    `audio` is `(batch, samples)`, float32 in -1..1, zero past each utterance's end (the dots):

        first   ~~~~~~~~~~~~~~~~~
        second  ~~~~~~~~.........
        third   ~~~~~~~~~~~~.....

    `lengths` is `(batch,)`, in samples: where the dots begin.
    """

    audio: Tensor
    lengths: Tensor
    utterances: list[Utterance]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return Batch(
            self.audio.to(device, non_blocking=non_blocking),
            self.lengths.to(device, non_blocking=non_blocking),
            self.utterances,
        )

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from which a GPU copies faster."""
        return Batch(self.audio.pin_memory(), self.lengths.pin_memory(), self.utterances)


@dataclass(frozen=True)
class Loader:
    """How utterances become batches.

    `batch_seconds` bounds a batch's padded length in seconds (one utterance that is longer makes a batch of its own).
    `speeds` are the factors of speed perturbation (Ko et al. 2015), one drawn per utterance and epoch while training;
    `[1.0]` switches it off. `workers` are processes that read ahead.
    """

    batch_seconds: float = 24.0
    speeds: Sequence[float] = (1.0,)
    workers: int = 0
    seed: int = 0

    def training(self, utterances: Sequence[Utterance], sample_rate: int) -> DataLoader:
        """Shuffled batches of like lengths, anew each epoch."""
        return self._loader(utterances, sample_rate, tuple(self.speeds), shuffle=True, shared=True)

    def evaluation(self, utterances: Sequence[Utterance], sample_rate: int) -> DataLoader:
        """Every utterance once, as it is, longest first: what does not fit into memory fails at once."""
        return self._loader(utterances, sample_rate, (1.0,), shuffle=False, shared=False)

    def validation(self, utterances: Sequence[Utterance], sample_rate: int) -> DataLoader:
        """As `evaluation`, shared out among the processes that train."""
        return self._loader(utterances, sample_rate, (1.0,), shuffle=False, shared=True)

    def _loader(
        self, utterances: Sequence[Utterance], sample_rate: int, speeds: tuple[float, ...], shuffle: bool, shared: bool
    ) -> DataLoader:
        return DataLoader(
            _Audio(utterances, sample_rate, speeds, self.seed),
            # Slowed down, an utterance is longer; the bound holds for the slowest.
            batch_sampler=BatchesBySeconds(
                [_seconds(u) / min(speeds) for u in utterances], self.batch_seconds, shuffle, self.seed, shared
            ),
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else every epoch would draw from, and so move, the global one
        )


class BatchesBySeconds(Sampler[list[tuple[int, int]]]):
    """Yields batches of `(utterance number, epoch)`.

    Where several processes train, each takes every n-th of those that are `shared`. All take the same count, for they
    wait for each other: where batches are lacking in the last round, the first ones come again.
    """

    def __init__(
        self, seconds: Sequence[float], batch_seconds: float, shuffle: bool, seed: int, shared: bool = False
    ) -> None:
        self.seconds, self.batch_seconds, self.shuffle, self.seed = seconds, batch_seconds, shuffle, seed
        self.shared = shared
        self.epoch = 0

    @property
    def sampler(self) -> "BatchesBySeconds":
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
        # Utterances whose lengths round up to the same level change places freely from one epoch to the next, and the
        # levels alone decide where a batch ends: Lightning counts an epoch's batches once, so their number must stay.
        lengths = [_level(seconds) if self.shuffle else seconds for seconds in self.seconds]
        ties = [draw.random() if self.shuffle else 0.0 for _ in lengths]
        batches: list[list[int]] = []
        longest = 0.0
        for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], ties[number])):
            if batches and longest * (len(batches[-1]) + 1) <= self.batch_seconds:
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


def _level(seconds: float) -> float:
    return 1.1 ** math.ceil(math.log(max(seconds, 0.01), 1.1))


class _Audio(Dataset):
    def __init__(self, utterances: Sequence[Utterance], sample_rate: int, speeds: tuple[float, ...], seed: int) -> None:
        self.utterances, self.sample_rate, self.speeds, self.seed = utterances, sample_rate, speeds, seed

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Utterance, Tensor]:
        number, epoch = key
        audio = read_audio(self.utterances[number], self.sample_rate)
        speed = random.Random(f"{self.seed}/{epoch}/{number}").choice(self.speeds)
        return self.utterances[number], resample(audio, round(self.sample_rate * speed), self.sample_rate)


def collate(items: Sequence[tuple[Utterance, Tensor]]) -> Batch:
    """Pad `(samples,)` waveforms with zeros into one batch."""
    audio = torch.nn.utils.rnn.pad_sequence([samples for _, samples in items], batch_first=True)
    lengths = torch.tensor([len(samples) for _, samples in items])
    return Batch(audio, lengths, [utterance for utterance, _ in items])


def _seconds(utterance: Utterance) -> float:
    if utterance.duration is not None:
        return utterance.duration
    import soundfile

    info = soundfile.info(str(utterance.audio_filepath))
    return info.frames / info.samplerate - utterance.offset
