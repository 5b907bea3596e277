"""Read the weights file of CTranslate2 (`model.bin`): named arrays, of which 8- and 16-bit integers have a scale.

The layout is that of `ctranslate2/specs/model_spec.py`, binary versions 4 to 6. It is plain data, unlike a pickle.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adapt.errors import InputError

_VERSIONS = (4, 5, 6)
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, np.uint16)  # the last one holds the bits of bfloat16
_BFLOAT16 = 5
_LONGEST_NAME, _MOST_DIMENSIONS = 1000, 8


@dataclass(frozen=True)
class CTranslate2File:
    """The content of a `model.bin`.

    Attributes:
        spec: The kind of the model, such as "WhisperSpec".
        arrays: The stored arrays by name; that of an alias is there under both names.
    """

    spec: str
    arrays: Mapping[str, Tensor]

    @property
    def rounded(self) -> str:
        """The smallest type that weights are stored in, such as "int8"; empty if all have 32 bits."""
        types = {tensor.dtype for name, tensor in self.arrays.items() if tensor.dim() > 1}
        order = (torch.int8, torch.int16, torch.bfloat16, torch.float16)
        return next((str(one).removeprefix("torch.") for one in order if one in types), "")

    def weight(self, name: str) -> Tensor:
        """Return a weight in 32 bits, in memory of its own: integers are divided by the scale of their row.

        Raises KeyError.
        """
        stored = self.arrays[name]
        if stored.dtype not in (torch.int8, torch.int16):
            return stored.to(torch.float32, copy=True)  # equal weights are aliases, but do not train together
        scale = self.arrays[f"{name}_scale"].float()
        return stored.float() / (scale.reshape(-1, *[1] * (stored.dim() - 1)) if scale.dim() else scale)


def is_ctranslate2(path: Path) -> bool:
    """Return whether a file begins like a `model.bin` of CTranslate2."""
    try:
        with open(path, "rb") as file:
            version, length = struct.unpack("<IH", file.read(6))
            spec = file.read(min(length, _LONGEST_NAME))
    except (OSError, struct.error):
        return False
    return version in _VERSIONS and spec[-5:] == b"Spec\0"


def read_ctranslate2(path: Path) -> CTranslate2File:
    """Read a `model.bin`. Raises InputError if it is damaged, or of a version that is not known."""
    try:
        return _read(_Bytes(path))
    except (struct.error, ValueError, IndexError, KeyError, OSError, OverflowError) as error:
        raise InputError(
            f"'{path}' is not a complete model.bin of CTranslate2, in binary version {_VERSIONS[0]} to {_VERSIONS[-1]} "
            f"({error}). Copy it again, or convert the model again."
        ) from None


class _Bytes:
    """The bytes of a file, read from front to end."""

    def __init__(self, path: Path) -> None:
        # "c" is copy on write: torch would warn about an array that cannot be written.
        self._bytes, self._place = np.memmap(path, mode="c"), 0

    def take(self, count: int) -> np.ndarray:
        start, end = self._place, self._place + count
        if end > len(self._bytes):
            raise ValueError(f"it ends after {len(self._bytes):,} bytes, in the middle of a value")
        self._place = end
        return self._bytes[start:end]

    def number(self, form: str) -> int:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")).tobytes())[0]

    def text(self) -> str:
        length = self.number("H")
        if not 1 <= length <= _LONGEST_NAME:
            raise ValueError(f"a name has {length} bytes")
        return self.take(length).tobytes()[:-1].decode("utf-8")


def _read(file: _Bytes) -> CTranslate2File:
    version = file.number("I")
    if version not in _VERSIONS:
        raise ValueError(f"it has binary version {version}")
    spec, _ = file.text(), file.number("I")
    arrays: dict[str, Tensor] = {}
    for _ in range(file.number("I")):
        name = file.text()
        arrays[name] = _array(file, name)
    for _ in range(file.number("I")):
        alias, name = file.text(), file.text()
        arrays[alias] = arrays[name]
        if f"{name}_scale" in arrays:
            arrays.setdefault(f"{alias}_scale", arrays[f"{name}_scale"])
    return CTranslate2File(spec, arrays)


def _array(file: _Bytes, name: str) -> Tensor:
    dimensions = file.number("B")
    if dimensions > _MOST_DIMENSIONS:
        raise ValueError(f"'{name}' has {dimensions} dimensions")
    shape = [file.number("I") for _ in range(dimensions)]
    kind, size = file.number("B"), file.number("I")
    dtype = np.dtype(_TYPES[kind])
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"'{name}' has shape {tuple(shape)} in {size:,} bytes")
    # Not aligned in the file. A copy takes memory for what is read, and no more than the file is long.
    values = torch.from_numpy(file.take(size).copy().view(dtype).reshape(shape))
    return values.view(torch.bfloat16) if kind == _BFLOAT16 else values
