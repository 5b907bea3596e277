"""Keep the weights of a model in a file instead of memory. The system reads them again where they are needed."""

import logging
import os
import sys
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from adapt.models.model import Model

log = logging.getLogger(__name__)

LEAST = 64_000_000  # bytes; below, it is not worth a file
_ALIGNED = 64


@torch.no_grad()
def map_weights(model: Model, folder: Path, least: int = LEAST) -> int:
    """Move the weights of a model on the CPU into a file that is mapped into memory, and return how many bytes.

    The model computes the same, and can be changed: a change is kept in memory, and not in the file. The file has no
    name, so that nothing is left of it after the process ended, however it ended. Without room on the disk, the weights
    stay in memory.

    Args:
        model: The model.
        folder: On whose disk the file is.
        least: The smallest size of all weights that is moved, in bytes.
    """
    tensors = list(_in_memory(model))
    places, size = [], 0
    for tensor in tensors:
        places.append(size)
        size += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
    if size < least:
        return 0
    path = folder / f"weights-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            for tensor, place in zip(tensors, places, strict=True):
                file.seek(place)
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            file.truncate(size)
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except OSError as error:
        log.debug("The base's weights stay in memory: %s", error)
        return 0
    finally:
        with suppress(OSError):
            path.unlink()
    for tensor, place in zip(tensors, places, strict=True):
        tensor.data = mapped[place : place + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
    return size


def _in_memory(model: nn.Module) -> Iterator[Tensor]:
    """Yield each parameter and buffer that has memory of its own, and is not already in a file that was mapped.

    Others may be views of the same memory. transformers maps the files of models in 32 bits.
    """
    files = _mapped_files()
    found = [*model.parameters(), *model.buffers()]
    owners: dict[int, int] = {}
    for tensor in found:
        place = tensor.untyped_storage().data_ptr()
        owners[place] = owners.get(place, 0) + 1
    for tensor in found:
        alone = owners[tensor.untyped_storage().data_ptr()] == 1
        if alone and tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.numel():
            number = bisect_right(files, (tensor.data_ptr(), sys.maxsize)) - 1
            if number < 0 or files[number][1] <= tensor.data_ptr():
                yield tensor


def _mapped_files() -> list[tuple[int, int]]:
    """Return from where to where files are mapped into this process's memory, ascending; [] where nobody knows."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    rows = [line.split(maxsplit=5) for line in lines]
    places = [row[0].split("-") for row in rows if len(row) == 6 and row[5].startswith("/")]
    return sorted((int(start, 16), int(end, 16)) for start, end in places)
