"""On disk: tensors in a safetensors file with a JSON header, written whole or not at all, without any code in it."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands that write a text do not wait for torch
    from torch import Tensor

    from interventions.sites import Site

FORMAT = 1
_KEY = "innertune"


class FileError(ValueError):
    """A file is not what was expected, and the message says how."""


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it becomes `path`, and otherwise it is removed.

    A process killed at any instant leaves either the old file or the new one. What it may also leave is a file
    named `.NAME.XXXX.part`, which nothing reads.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())  # mkstemp makes private files; a run's output is an ordinary one
        part.replace(path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_tensors(path: Path | str, kind: str, header: Mapping[str, Any], tensors: Mapping[str, "Tensor"]) -> None:
    """Write tensors and a header of `kind`, whole or not at all. Raises ValueError where the header is not JSON."""
    from safetensors.torch import save_file

    try:
        said = json.dumps({**header, "format": FORMAT, "kind": kind}, ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"What is said of {kind} must be JSON: {error}.") from None
    # One that shares its memory with another, or is a view, would not be written.
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic(path) as part:
        save_file(own, part, metadata={_KEY: said})


def read_tensors(path: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Return the header and the tensors of a file of `kind`.

    Raises:
        FileError: there is no such file, it is damaged, or of another kind or a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileError(f"There is no file '{path}'.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise FileError(f"'{path}' is not a whole safetensors file ({error}). Write or copy it again.") from None
    if not isinstance(header, dict) or header.get("kind") != kind:
        found = header.get("kind", "a model") if isinstance(header, dict) else "something else"
        raise FileError(f"'{path}' was expected to hold {kind}, and holds {found}.")
    if header.get("format") != FORMAT:
        raise FileError(
            f"'{path}' has format {header.get('format')!r}, and this version reads format {FORMAT}. Update innertune."
        )
    return header, tensors


def site_to_json(site: "Site") -> dict[str, Any]:
    """A site as JSON."""
    said = {"name": site.name, "unit_axis": site.unit_axis, "units": site.units, "rows": list(site.rows)}
    step = None if site.step is None else [site.step.length, site.step.unit]
    return {**said, "part": site.part, "step": step}


def site_from_json(said: Mapping[str, Any]) -> "Site":
    """The site that `site_to_json` described. Raises FileError."""
    from interventions.sites import Site, Step

    try:
        step = None if said["step"] is None else Step(said["step"][0], said["step"][1])
        return Site(said["name"], said["unit_axis"], said["units"], tuple(said["rows"]), said["part"], step)
    except (KeyError, TypeError, IndexError) as error:
        raise FileError(f"{said!r} does not describe a site ({error}).") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
