"""Decide whether to cache a frozen prefix (`prefix.py`): if that is possible, saves time, and fits on the disk."""

import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Literal

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader, fitting_speeds, speed_of
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.models.cut import Cut
from adapt.models.model import Model
from adapt.training.prefix import Prefix, UncachedError, find_cut
from adapt.training.prefix_store import Processes, Stored, store

log = logging.getLogger(__name__)

# By split: its examples, and each `(example number, speed)` of them that training reads.
Sets = dict[str, tuple[Sequence[Example], list[tuple[int, float]]]]


@dataclass(frozen=True)
class Cache:
    """Whether to cache a prefix: if possible (`use="auto"`) or never ("off"), in at most `gigabytes` (10⁹ bytes).

    Raises:
        InputError: `use` is neither of these, or the size is negative.
    """

    use: Literal["auto", "off"] = "auto"
    gigabytes: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "use", "off" if self.use is False else self.use)  # YAML reads a bare off as False
        if self.use not in ("auto", "off") or isinstance(self.gigabytes, (bool, str)) or not self.gigabytes >= 0:
            raise InputError(
                f"cache.use must be auto or off, and cache.gigabytes a size of 0 or more; got {self.use!r} and "
                f"{self.gigabytes!r}."
            )


def plan(model: Model, cut: Cut, batch: Batch, sets: Sets, most: float) -> tuple[Prefix, int]:
    """Return the prefix up to a cut, and the size in bytes of its outputs for these examples at these speeds.

    Raises:
        UncachedError: the prefix is random, or the outputs take more than `most` bytes.
    """
    prefix, total = Prefix(model, cut, batch), 0
    for examples, pairs in sets.values():
        lengths = []
        for number, speed in pairs:
            if model.reads_audio:
                lengths.append(ceil(model.reader.length(examples[number]) * model.sample_rate / speed))
            else:
                lengths.append(len(model.reader.read(examples[number])))
        total += prefix.nbytes([examples[number] for number, _ in pairs], lengths)
    if total > most:
        raise UncachedError(f"it would take {size(total)} on disk, more than the {size(most)} of cache.gigabytes=")
    return prefix, total


def cache_prefix(
    model: Model,
    splits: Splits,
    loader: Loader,
    cache: Cache,
    epochs: int | None,
    folder: Path,
    context: Callable[[], AbstractContextManager] = nullcontext,
    processes: Processes | None = None,
) -> tuple[Prefix, dict[str, Stored]] | None:
    """Store the outputs of a model's frozen prefix for the training and validation data, or log why it is not cached.

    Args:
        model: The model, with `requires_grad` set for training.
        splits: The examples. `train` ends with the source examples to replay.
        loader: Batches the examples.
        cache: Whether to cache, and the maximum size.
        epochs: The number of epochs; None if it is unknown.
        folder: Where to store the outputs; what an earlier run left there is deleted.
        context: Makes a context manager that is entered around forward passes, for mixed precision.
        processes: The processes that share the work; None for one.

    Returns:
        The prefix and the stored outputs by split, or None if nothing is cached.
    """
    processes = processes or Processes()
    if processes.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
    processes.barrier()
    if cache.use == "off":
        return None
    sets = what_is_read(model, splits, loader, epochs)
    try:
        cut = cut_for(model, sets, epochs)
        batch = next(iter(replace(loader, workers=0).once(splits.train, model.reader, sets["train"][1])))
        folder.mkdir(parents=True, exist_ok=True)
        most = processes.gather(free_bytes(folder, cache.gigabytes))[0]
        with context():
            prefix, total = plan(model, cut, batch.to(next(model.parameters()).device), sets, most)
    except UncachedError as error:
        if processes.rank == 0:
            log.info("No cached prefix: %s.", error)
            shutil.rmtree(folder, ignore_errors=True)
        return None
    if processes.rank == 0:
        names = [layer.name for layer in model.layers]
        log.info(
            "Cached prefix: the lower %d of %d layers run once for each example and speed; this takes %s on disk.",
            names.index(cut.last) + 1, len(names), size(total),
        )  # fmt: skip
    return prefix, {
        name: store(prefix, examples, pairs, loader, folder, name, context, processes)
        for name, (examples, pairs) in sets.items()
    }


def cut_for(model: Model, sets: Sets, epochs: int | None) -> Cut:
    """Return the cut to cache at. Raises UncachedError if there is none, or if caching saves no time in `epochs`."""
    cut, (examples, pairs) = find_cut(model), sets["train"]
    if epochs is not None and len(pairs) >= epochs * len(examples):
        raise UncachedError("no example is read twice")
    return cut


def what_is_read(model: Model, splits: Splits, loader: Loader, epochs: int | None) -> Sets:
    """Return the splits that training reads, with each `(example number, speed)`."""
    speeds = tuple(loader.speeds) if model.reads_audio else (1.0,)
    sets: Sets = {"train": (splits.train, needed(splits.train, epochs, speeds, loader.seed))}
    if splits.validation:
        sets["validation"] = (splits.validation, [(number, 1.0) for number in range(len(splits.validation))])
    return sets


def size(count: float) -> str:
    """Return a number of bytes as text: `1.2 GB`."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.3g} {unit}"
    return f"{count:.0f} bytes"


def free_bytes(folder: Path, gigabytes: float) -> float:
    """Return how many bytes a cache in `folder` may take: at most `gigabytes`, and at most 90 % of the free space."""
    return min(gigabytes * 1e9, 0.9 * shutil.disk_usage(folder).free)


def needed(
    examples: Sequence[Example], epochs: int | None, speeds: Sequence[float], seed: int
) -> list[tuple[int, float]]:
    """Return each `(example number, speed)` that training will read; with all `speeds` if `epochs` is None."""
    pairs: list[tuple[int, float]] = []
    for number, example in enumerate(examples):
        fitting = fitting_speeds(example, speeds)
        drawn = fitting if epochs is None else [speed_of(seed, epoch, number, fitting) for epoch in range(epochs)]
        pairs += [(number, speed) for speed in sorted(set(drawn))]
    return pairs
