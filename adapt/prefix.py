"""The cached prefix: layers below the lowest one that trains run once for each example, and are replayed from a file.

What a frozen layer makes of an example is the same in every epoch, unless something random lies at or below it. So the
activations that enter the lowest trained layer are computed once for each example and speed, kept in memory-mapped
files, and stand in for the layers below, for the features and for the audio itself. A model says by its `cuts` where
this can be done; the modules below a cut are then not run (`Prefix.replayed`), and everything above them is as ever,
masks, dropout and gradients included.

Losses are those of an uncached run: bit for bit where an example is computed in the same batch, and else as near as
batches of other sizes come.
"""

import logging
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader, speed_of
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.inference import eval_mode
from adapt.models.cut import Cut
from adapt.models.model import Model
from adapt.progress import track
from interventions.freeze import eval_frozen

log = logging.getLogger(__name__)


# The examples of each split, and each `(example number, speed)` of them that is read.
Sets = dict[str, tuple[Sequence[Example], list[tuple[int, float]]]]


@dataclass(frozen=True)
class Cache:
    """Whether a prefix is cached where it can be (`auto`) or never (`off`), in at most so many gigabytes (10⁹ bytes).

    Raises:
        InputError: neither of these, or a size below 0.
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


@contextmanager
def train_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into the mode in which it trains, frozen parts in eval mode, for a block."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    eval_frozen(model)
    try:
        yield
    finally:
        for module, before in modes:
            module.training = before


class UncachedError(Exception):
    """Why no prefix is cached."""


def find_cut(model: Model) -> Cut:
    """The highest of a model's cuts below which nothing trains and nothing is random. Raises UncachedError."""
    layers = model.layers
    names, lowest = [layer.name for layer in layers], len(layers)
    for name, parameter in model.named_parameters(remove_duplicate=False):  # a tied one by each of its names
        # What a tuning adds to a layer, such as low-rank factors, may stand in modules below the layer's own.
        places = [(len(module), number) for number, layer in enumerate(layers) for module in layer.modules
                  if parameter.requires_grad and name.startswith(f"{module}.")]  # fmt: skip
        lowest = min(lowest, max(places)[1]) if places else lowest
    if lowest == 0:
        raise UncachedError(f"the lowest trained layer, '{names[0]}', is the first")
    possible = model.cuts
    if not possible:
        raise UncachedError("this network is run on one utterance after another")
    possible = [cut for cut in possible if names.index(cut.last) < lowest]
    if not possible:
        raise UncachedError(f"the layers below the lowest trained one, '{names[lowest]}', cannot be told apart from it")
    with train_mode(model):
        for cut in reversed(possible):
            reasons = [why for name, why in cut.inside.items() if model.get_submodule(name).training]
            if not reasons:
                return cut
    raise UncachedError(f"{reasons[0]} below the lowest trained layer, '{names[lowest]}'")


class _ReachedError(Exception):
    """The last tap has been passed, and the rest of the network need not run."""


class Prefix:
    """A model's frozen prefix up to a cut: computed by `record`, and left out within `replayed`.

    Args: `batch` is any batch, by which it learns what the modules put out.

    Raises:
        UncachedError: the prefix is random after all.
    """

    def __init__(self, model: Model, cut: Cut, batch: Batch) -> None:
        self.model, self.cut = model, cut
        names = [layer.name for layer in model.layers]
        self._below = [own for layer in model.layers[: names.index(cut.last) + 1] for name in layer.modules
                       for own in model.get_submodule(name).parameters(recurse=False)]  # fmt: skip
        # What each module puts out: the shape of the first tensor, and of how many, None where it is no tuple.
        self._outputs: dict[str, tuple[torch.Size, int | None]] = {}
        found = [self._pass(batch, train=train) for train in (False, True, True)]
        for tap, once, *again in zip(cut.taps, *found, strict=True):
            if not all(torch.equal(once, other) for other in again):
                raise UncachedError(f"what '{tap.module}' puts out is not the same each time")
        self.widths = [tensor.shape[3 - tap.axis] for tap, tensor in zip(cut.taps, found[0], strict=True)]
        self.steps = [tensor.shape[tap.axis] for tap, tensor in zip(cut.taps, found[0], strict=True)]
        self.dtypes = [tensor.dtype for tensor in found[0]]

    @torch.no_grad()
    def _pass(self, batch: Batch, train: bool = False) -> list[Tensor]:
        """What the taps put out for a batch; in train mode, from another random state each time."""
        taps = [tap.module for tap in self.cut.taps]
        last, caught = taps[-1], {}

        def catch(name: str, output: Any) -> None:
            first, count = (output, None) if isinstance(output, Tensor) else (output[0], len(output))
            self._outputs[name] = first.shape, count
            if name in taps:
                caught[name] = first
            if name == last:
                raise _ReachedError

        names = {name for tap in self.cut.taps for name in (tap.module, *tap.fakes)}
        handles = [
            self.model.get_submodule(name).register_forward_hook(lambda *parts, name=name: catch(name, parts[2]))
            for name in names
        ]
        drawn = np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]), train_mode(self.model) if train else eval_mode(self.model):
                if train:
                    seed = random.SystemRandom().getrandbits(32)
                    torch.manual_seed(seed), np.random.seed(seed)
                self.model.task.loss(self.model, batch)
        except _ReachedError:
            pass
        finally:
            np.random.set_state(drawn)
            for handle in handles:
                handle.remove()
        return [caught[tap.module] for tap in self.cut.taps]

    def record(self, batch: Batch) -> list[list[Tensor]]:
        """What is to be stored of each example, one `(time, units)` for each tap, without padding."""
        made, tokens = [], self._tokens(batch.examples)
        for tap, whole in zip(self.cut.taps, self._pass(batch), strict=True):
            whole = whole if tap.axis == 1 else whole.transpose(1, 2)
            steps = (
                [whole.shape[1]] * len(whole) if tap.steps is None else tap.steps(batch.lengths.cpu(), tokens).tolist()
            )
            made.append([own[:count].cpu() for own, count in zip(whole, steps, strict=True)])
        return [list(parts) for parts in zip(*made, strict=True)]

    def _tokens(self, examples: Sequence[Example]) -> Tensor:
        written = any(tap.written for tap in self.cut.taps)
        return torch.tensor([len(self.model.encode(example.text)) if written else 0 for example in examples])

    def nbytes(self, examples: Sequence[Example], lengths: Sequence[int]) -> int:
        """How much is stored of examples of these lengths, in samples or tokens."""
        total, tokens, heard = 0, self._tokens(examples), torch.tensor(lengths)
        for tap, steps, width, dtype in zip(self.cut.taps, self.steps, self.widths, self.dtypes, strict=True):
            count = steps * len(examples) if tap.steps is None else int(tap.steps(heard, tokens).sum())
            total += count * width * dtype.itemsize
        return total

    @contextmanager
    def replayed(self, stored: Sequence[Tensor] | None, generating: bool = False) -> Iterator[None]:
        """Within it, the model takes what was stored of a batch for what its prefix puts out; None: it runs whole.

        Args: stored: `(batch, time, units)` of each tap. generating: a decoder writes by itself, and only what the
        encoder put out stands in.
        """
        if any(parameter.requires_grad for parameter in self._below):
            raise RuntimeError(
                f"A weight up to '{self.cut.last}' trains now, and what was stored was made before it did."
            )
        with ExitStack() as stack:
            for tap, tensor in zip(self.cut.taps, stored or (), strict=stored is not None):
                if generating and tap.written:
                    continue
                for name, fake in tap.fakes.items():
                    stack.enter_context(_forward(self.model.get_submodule(name), self._fake(name, fake, tensor)))
                output = tensor if tap.axis == 1 else tensor.transpose(1, 2).contiguous()
                replay = self._like(tap.module, output)
                stack.enter_context(_forward(self.model.get_submodule(tap.module), lambda *_, out=replay, **__: out))
            yield

    def _fake(self, name: str, fake: Any, stored: Tensor) -> Callable[..., Any]:
        if callable(fake):
            return fake
        if fake == "same":
            return lambda x, *_, **__: self._like(name, x)
        shape = list(self._outputs[name][0])
        shape[0], shape[fake] = stored.shape[:2]
        return lambda *_, **__: self._like(name, stored.new_zeros(shape))

    def _like(self, name: str, first: Tensor) -> Any:
        count = self._outputs[name][1]
        return first if count is None else (first, *[None] * (count - 1))


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


@dataclass
class Stored:
    """What a prefix made of the examples of a split, by `(example number, speed)`: how long the example is in samples
    or tokens, and one `(time, units)` for each tap.
    """

    files: list[tuple[Path, torch.dtype, int]] = field(default_factory=list)  # of how many numbers
    places: dict[tuple[int, float], tuple[int, list[tuple[int, int, int, int]]]] = field(default_factory=dict)
    _maps: dict[int, Tensor] = field(default_factory=dict)

    def __getitem__(self, key: tuple[int, float]) -> tuple[int, tuple[Tensor, ...]]:
        length, parts = self.places[key]
        return length, tuple(
            self._map(file)[offset : offset + steps * width].view(steps, width) for file, offset, steps, width in parts
        )

    def _map(self, file: int) -> Tensor:
        if file not in self._maps:
            path, dtype, size = self.files[file]
            self._maps[file] = torch.from_file(str(path), shared=False, size=size, dtype=dtype)
        return self._maps[file]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_maps": {}}  # a process that reads ahead maps them itself

    @property
    def nbytes(self) -> int:
        """The size of its files."""
        return sum(dtype.itemsize * size for _, dtype, size in self.files)

    @staticmethod
    def joined(parts: Sequence["Stored"]) -> "Stored":
        """The parts of several processes as one."""
        files, places = [], {}
        for part in parts:
            first = len(files)
            files += part.files
            for key, (length, at) in part.places.items():
                places[key] = length, [(first + file, *rest) for file, *rest in at]
        return Stored(files, places)


def needed(examples: int, epochs: int | None, speeds: Sequence[float], seed: int) -> list[tuple[int, float]]:
    """Each `(example number, speed)` that training will ask for; None: for who knows how many epochs."""
    if epochs is None:
        return [(number, speed) for number in range(examples) for speed in sorted(set(speeds))]
    return [
        (number, speed)
        for number in range(examples)
        for speed in sorted({speed_of(seed, epoch, number, speeds) for epoch in range(epochs)})
    ]


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is, and how they wait for each other and tell each other things."""

    rank: int = 0
    count: int = 1
    barrier: Callable[[], None] = lambda: None
    gather: Callable[[Any], list[Any]] = lambda own: [own]


def store(
    prefix: Prefix,
    examples: Sequence[Example],
    pairs: Sequence[tuple[int, float]],
    loader: Loader,
    folder: Path,
    name: str,
    context: Callable[[], AbstractContextManager] = nullcontext,
    processes: Processes | None = None,
) -> Stored:
    """Run the prefix over examples at their speeds and write what it puts out to `folder`; each process does its share.

    `context` is entered around each batch, for mixed precision.
    """
    processes = processes or Processes()
    device = next(prefix.model.parameters()).device
    found = Stored([(folder / f"{name}-{processes.rank}-{n}", dtype, 0) for n, dtype in enumerate(prefix.dtypes)])
    offsets = [0] * len(found.files)
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path, *_ in found.files]
        batches = loader.once(examples, prefix.model.reader, pairs, processes.rank, processes.count)
        numbers = iter([key for batch in batches.batch_sampler for key in batch])
        for batch in track(batches, f"storing ({name})"):
            with context():
                made = prefix.record(batch.to(device))
            for length, parts in zip(batch.lengths.tolist(), made, strict=True):
                at = []
                for n, part in enumerate(parts):
                    files[n].write(part.contiguous().view(torch.uint8).numpy().data)
                    at.append((n, offsets[n], *part.shape))
                    offsets[n] += part.numel()
                found.places[next(numbers)] = length, at
    found.files = [(path, dtype, size) for (path, dtype, _), size in zip(found.files, offsets, strict=True)]
    processes.barrier()
    return Stored.joined(processes.gather(found))


def plan(model: Model, cut: Cut, batch: Batch, sets: Sets, most: float) -> tuple[Prefix, int]:
    """The prefix up to a cut, and the bytes that it takes for these examples at these speeds.

    Raises:
        UncachedError: it is random, or takes more than `most` bytes.
    """
    prefix, total = Prefix(model, cut, batch), 0
    for examples, pairs in sets.values():
        lengths = []
        for number, speed in pairs:
            if model.reader.unit == "seconds":
                lengths.append(ceil(model.reader.length(examples[number]) * model.reader.sample_rate / speed))
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
    """Store in `folder` what a model's prefix makes of the training and validation data, or say why that is not done.

    Whatever an earlier run has left there is not read, and goes. `epochs` are those of the training, None: who knows.
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
            "Cached prefix: the lower %d of %d layers run once for each example and speed, and take %s on disk.",
            names.index(cut.last) + 1, len(names), size(total),
        )  # fmt: skip
    return prefix, {
        name: store(prefix, examples, pairs, loader, folder, name, context, processes)
        for name, (examples, pairs) in sets.items()
    }


def cut_for(model: Model, sets: Sets, epochs: int | None) -> Cut:
    """The cut at which so many epochs gain from a cache. Raises UncachedError."""
    cut, (examples, pairs) = find_cut(model), sets["train"]
    if epochs is not None and len(pairs) >= epochs * len(examples):
        raise UncachedError("no example comes a second time")
    return cut


def what_is_read(model: Model, splits: Splits, loader: Loader, epochs: int | None) -> Sets:
    """The splits that are read while training, with each `(example number, speed)` of them."""
    speeds = tuple(loader.speeds) if model.reader.unit == "seconds" else (1.0,)
    sets: Sets = {"train": (splits.train, needed(len(splits.train), epochs, speeds, loader.seed))}
    if splits.validation:
        sets["validation"] = (splits.validation, [(number, 1.0) for number in range(len(splits.validation))])
    return sets


def size(count: float) -> str:
    """Bytes in words."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.3g} {unit}"
    return f"{count:.0f} bytes"


def free_bytes(folder: Path, gigabytes: float) -> float:
    """How many bytes a cache in `folder` may take: the bound, and no more than nine tenths of what is free."""
    return min(gigabytes * 1e9, 0.9 * shutil.disk_usage(folder).free)
