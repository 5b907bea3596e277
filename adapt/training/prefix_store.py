"""Store the outputs of a frozen prefix (`prefix.py`) in files, and read them by `(example number, speed)`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast
from zlib import crc32

import torch
from torch import Tensor

from adapt.data.batches import BatchesByLength
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.progress import track
from adapt.training.prefix import Prefix


class Place(NamedTuple):
    """Where an output is: the file's number, the first element, the shape, and a checksum (CRC-32) of the bytes."""

    file: int
    offset: int
    steps: int
    width: int
    checksum: int


@dataclass
class Stored:
    """The stored outputs of the prefix for a split.

    Indexed by `(example number, speed)`, it returns the length of the example in samples or tokens, and the output
    `(time, units)` of each cached module. It raises InputError if the file was changed since it was written.
    """

    files: list[tuple[Path, torch.dtype, int]] = field(default_factory=list)  # path, type, number of elements
    places: dict[tuple[int, float], tuple[int, list[Place]]] = field(default_factory=dict)
    _maps: dict[int, Tensor] = field(default_factory=dict)

    def __getitem__(self, key: tuple[int, float]) -> tuple[int, tuple[Tensor, ...]]:
        length, parts = self.places[key]
        return length, tuple(map(self._read, parts))

    def _read(self, place: Place) -> Tensor:
        first = place.offset
        output = self._map(place.file)[first : first + place.steps * place.width].view(place.steps, place.width)
        if _checksum(output) != place.checksum:
            raise InputError(
                f"'{self.files[place.file][0]}' was changed or damaged after it was written. Check the disk; "
                "resume=true continues from the last complete epoch, and cache.use=off trains without such files."
            )
        return output

    def _map(self, file: int) -> Tensor:
        if file not in self._maps:
            path, dtype, size = self.files[file]
            self._maps[file] = torch.from_file(str(path), shared=False, size=size, dtype=dtype)
        return self._maps[file]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_maps": {}}  # each data-loading process maps the files itself

    @property
    def nbytes(self) -> int:
        """The total size of the files in bytes."""
        return sum(dtype.itemsize * size for _, dtype, size in self.files)

    @staticmethod
    def joined(parts: Sequence["Stored"]) -> "Stored":
        """Join what several processes have stored."""
        files, places = [], {}
        for part in parts:
            first = len(files)
            files += part.files
            for key, (length, at) in part.places.items():
                places[key] = length, [place._replace(file=first + place.file) for place in at]
        return Stored(files, places)


@dataclass(frozen=True)
class Processes:
    """The rank and number of processes, and how they wait for each other and exchange objects."""

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
    """Run the prefix over examples and write its outputs to files. Each process does its share.

    Args:
        prefix: The prefix to run.
        examples: The examples of a split.
        pairs: Each `(example number, speed)` to run the prefix on.
        loader: Batches the examples.
        folder: Where to write the files.
        name: The name of the split; file names begin with it.
        context: Makes a context manager that is entered around each batch, for mixed precision.
        processes: The processes that share the work; None for one.

    Returns:
        The stored outputs of all processes.
    """
    processes = processes or Processes()
    device = next(prefix.model.parameters()).device
    found = Stored([(folder / f"{name}-{processes.rank}-{n}", dtype, 0) for n, dtype in enumerate(prefix.dtypes)])
    offsets = [0] * len(found.files)
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path, *_ in found.files]
        batches = loader.once(examples, prefix.model.reader, pairs, processes.rank, processes.count)
        numbers = iter([key for batch in cast(BatchesByLength, batches.batch_sampler) for key in batch])
        for batch in track(batches, f"storing ({name})"):
            with context():
                made = prefix.record(batch.to(device))
            for length, parts in zip(batch.lengths.tolist(), made, strict=True):
                at = []
                for n, part in enumerate(parts):
                    files[n].write(part.contiguous().view(torch.uint8).numpy().data)
                    at.append(Place(n, offsets[n], part.shape[0], part.shape[1], _checksum(part)))
                    offsets[n] += part.numel()
                found.places[next(numbers)] = length, at
    found.files = [(path, dtype, size) for (path, dtype, _), size in zip(found.files, offsets, strict=True)]
    processes.barrier()
    return Stored.joined(processes.gather(found))


def _checksum(output: Tensor) -> int:
    return crc32(output.contiguous().view(torch.uint8).numpy().data) if output.numel() else 0
