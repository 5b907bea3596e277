"""Write files atomically, and store tensors with a JSON header in safetensors files, which cannot contain code."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # callers that only write text should not wait for torch
    from torch import Tensor

    from interventions.sites import Site

FORMAT = 1
_KEY = "innertune"
_MAX_UNITS = 2**24  # a damaged file must not make us list more units than any layer has


class FileError(ValueError):
    """A file is missing, damaged, or not of the expected kind. The message says which."""


@contextmanager
def atomic(path: Path | str, private: bool = False) -> Generator[Path, None, None]:
    """Yield a temporary path next to `path`, and rename it to `path` if the block succeeds.

    Even if the process is killed, `path` is either the complete old file or the complete new one. A file named
    `.NAME.XXXX.part` may then remain, which nothing reads.

    Args:
        path: the file to write.
        private: let only the owner read the file (0600).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    start = os.fsdecode(os.fsencode(path.name)[:200])  # a name may have 255 bytes
    handle, name = tempfile.mkstemp(prefix=f".{start}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        if not private:
            part.chmod(0o666 & ~_umask())  # mkstemp creates files that only their owner can read
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str, private: bool = False) -> Generator[Path, None, None]:
    """Yield a temporary folder next to `path`, and rename it to `path` if the block succeeds.

    Even if the process is killed, `path` is either missing or complete. A folder named `.NAME.XXXX.part`, which only
    its owner can read, may then remain.

    Args:
        path: a folder that does not exist, or is empty.
        private: let only the owner read the folder (0700).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield part
        for place in (*part.rglob("*"), part):
            _sync(place)
        if not private:
            part.chmod(0o777 & ~_umask())  # mkdtemp creates folders that only their owner can read
        part.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def private_folder(path: Path) -> None:
    """Create a folder, and those above it, that only their owner can read (0700). Existing ones stay as they are."""
    if not os.path.isdir(path):
        private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def write_tensors(path: Path | str, kind: str, header: Mapping[str, Any], tensors: Mapping[str, "Tensor"]) -> None:
    """Write tensors and a header to a safetensors file, atomically.

    Args:
        path: the file to write.
        kind: what the file contains; `read_tensors` checks it.
        header: data that JSON can represent.
        tensors: the tensors by name.

    Raises:
        ValueError: If JSON cannot represent the header.
    """
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

    metadata = metadata_of(kind, header)
    # safetensors refuses views and tensors that share memory.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic(path) as part:
        save_file(copies, part, metadata=metadata)


def metadata_of(kind: str, header: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a safetensors file with a header. Raises ValueError if JSON cannot represent it."""
    try:
        text = json.dumps({**header, "format": FORMAT, "kind": kind}, ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"JSON cannot represent the header of {kind}: {error}.") from None
    return {_KEY: text.encode("utf-8", "backslashreplace").decode()}  # a path may hold what UTF-8 lacks


def read_tensors(path: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Return the header and the tensors of a file of `kind`.

    Raises:
        FileError: If the file is missing, damaged, of another kind, or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not os.path.isfile(path):  # unlike Path.is_file, without an exception for names that cannot be a file's
        raise FileError(f"There is no file '{path}'.")
    try:
        with cast(Any, safe_open)(path, framework="pt") as file:  # its annotations lack the context manager
            metadata: dict[str, str] = file.metadata() or {}
            header = json.loads(metadata.get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise FileError(f"'{path}' is not a complete safetensors file ({error}). Write or copy it again.") from None
    if not isinstance(header, dict):
        raise FileError(f"'{path}' was expected to contain {kind}, but innertune did not write it.")
    header = cast(dict[str, Any], header)
    if header.get("kind") != kind:
        raise FileError(f"'{path}' was expected to contain {kind}, but contains {header.get('kind', 'a model')}.")
    if header.get("format") != FORMAT:
        raise FileError(
            f"'{path}' has format {header.get('format')!r}, and this version reads format {FORMAT}. Update innertune."
        )
    return header, tensors


def site_to_json(site: "Site") -> dict[str, Any]:
    """Return a site as JSON data."""
    return {
        "name": site.name,
        "unit_axis": site.unit_axis,
        "units": site.units,
        "rows": list(site.rows),
        "part": site.part,
        "step": None if site.step is None else [site.step.length, site.step.unit],
    }


def site_from_json(data: Any) -> "Site":
    """Return the site that `site_to_json` represented as JSON data. Raises FileError if the data are not a site."""
    from interventions.sites import Site, Step

    try:
        name, axis, units, rows, part, step = (
            data[key] for key in ("name", "unit_axis", "units", "rows", "part", "step")
        )
        if not isinstance(name, str) or not isinstance(rows, list):
            raise TypeError("name must be a text, and rows a list")
        if not all(isinstance(row, str) for row in cast(list[Any], rows)) or not _is_count(units):
            raise TypeError(f"rows must be texts, and units a number from 0 to {_MAX_UNITS:,}")
        if type(axis) is not int or part not in (None, "encoder", "decoder", "cross-attention"):
            raise TypeError("unit_axis or part is none that a site can have")
        step = None if step is None else Step(*step)
        if step is not None and (step.unit not in ("s", "token") or not 0 < step.length < math.inf):
            raise TypeError("step must be a length above 0 and its unit")
        return Site(name, axis, units, tuple(cast(list[str], rows)), part, step)
    except (KeyError, TypeError, IndexError) as error:
        shown = ascii(data)[:200]
        raise FileError(f"{shown} does not describe a site ({error}).") from None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_UNITS


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
