"""The contents of a correction store as plain data, and the files that they are exported to.

An export is a safetensors file with a checksum over all of its bytes. Exports of version 0.1 have none. Every value is
checked in both (`interventions/corrections/checks.py`).
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from interventions.bits import fingerprint as tensors_fingerprint
from interventions.corrections.collection import Entry
from interventions.corrections.memory import Memory
from interventions.corrections.packing import (
    ENTRY,
    damage,
    entry_from,
    memory_from,
    memory_tensors,
    memory_to_json,
    to_json,
)
from interventions.files import FileError, atomic, metadata_of, read_tensors

_KIND = "corrections"
_UNKNOWN = "0" * 64  # what takes the place of the checksum while it is computed
_LARGEST = 2 << 30  # bytes of an export

Facts = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Correction:
    """One correction of a store.

    Args:
        number: its number.
        made: when it was made (UTC, ISO 8601).
        author: who made it.
        facts: further JSON data.
        entry: how it edits the layer; None if it does not.
    """

    number: int
    made: str
    author: str
    facts: Facts
    entry: Entry | None

    @property
    def identity(self) -> tuple[str, str, str]:
        """What copies of a correction have in common, with and without names: its time, its facts and its edit."""
        tensors = {} if self.entry is None else {name: getattr(self.entry, name) for name in ENTRY}
        facts = {name: value for name, value in self.facts.items() if name != "example"}
        return self.made, to_json(facts), tensors_fingerprint(tensors)


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything in a store.

    Args:
        fingerprint: fingerprint of the model.
        memory: the memory, without corrections.
        facts: JSON data about the memory.
        corrections: the corrections, the oldest first.
        has_checksum: whether the file that they were read from had a checksum.
    """

    fingerprint: str
    memory: Memory
    facts: Facts
    corrections: tuple[Correction, ...]
    has_checksum: bool = False

    def without_names(self, strip: Callable[[Facts], Facts]) -> "Contents":
        """Return the contents without authors, and with all facts as `strip` returns them."""
        kept = tuple(replace(one, author="", facts=strip(one.facts)) for one in self.corrections)
        return replace(self, facts=strip(self.facts), corrections=kept)


def write_export(path: Path | str, contents: Contents) -> None:
    """Write contents to a safetensors file that only its owner can read, atomically."""
    from safetensors.torch import save

    tensors = memory_tensors(contents.memory.protected)
    if contents.memory.folded is not None:
        tensors["folded"] = contents.memory.folded
    entries: list[dict[str, Any]] = []
    for one in contents.corrections:
        entries.append({"number": one.number, "made": one.made, "author": one.author, "facts": one.facts})
        if one.entry is not None:
            tensors |= {f"{one.number}.{name}": getattr(one.entry, name) for name in ENTRY}
    header = {
        "checksum": _UNKNOWN,  # first, so that its place is the first of its kind
        "fingerprint": contents.fingerprint,
        "memory": {**memory_to_json(contents.memory), "facts": contents.facts},
        "corrections": entries,
    }
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = save(copies, metadata_of(_KIND, header))
    digest = hashlib.sha256(data).hexdigest()
    with atomic(path, private=True) as part:
        part.write_bytes(data.replace(_UNKNOWN.encode(), digest.encode(), 1))


def read_export(path: Path | str, fingerprint: str) -> Contents:
    """Read a file that `write_export` or version 0.1 wrote.

    Raises:
        FileError: If the file is damaged or was changed, has values that no memory writes, or belongs to another model.
    """
    path = Path(path)
    if os.path.isfile(path) and path.stat().st_size > _LARGEST:
        raise FileError(f"'{path}' has {path.stat().st_size >> 20} MiB; exports have at most {_LARGEST >> 20}.")
    header, tensors = read_tensors(path, _KIND)
    if "checksum" in header:
        _check_digest(path, header["checksum"])
    with damage(f"'{path}'", "Nothing was imported. Export the corrections again."):
        given = header["fingerprint"]
        if given == fingerprint:
            return _contents(header, tensors)
    raise FileError(
        f"The corrections in '{path}' belong to another model, with fingerprint {str(given)[:12]}.... This model has "
        f"fingerprint {fingerprint[:12]}...."
    )


def _check_digest(path: Path, digest: Any) -> None:
    data = path.read_bytes()
    known = isinstance(digest, str) and len(digest) == len(_UNKNOWN) and digest.isascii()
    if known and hashlib.sha256(data.replace(digest.encode(), _UNKNOWN.encode(), 1)).hexdigest() == digest:
        return
    raise FileError(
        f"'{path}' does not match its checksum: it is damaged, or was changed. Nothing was imported. Export the "
        "corrections again."
    )


def _contents(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Contents:
    memory = memory_from(header["memory"], tensors, tensors.get("folded"))
    corrections: list[Correction] = []
    prefixes: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, rest = name.partition(".")
        prefixes.setdefault(number, {})[rest] = tensor
    for row in header["corrections"]:
        number = checked_number(row["number"])
        stored = prefixes.get(str(number))
        entry = None if stored is None else entry_from(stored, memory.protected)
        made, author = checked_texts(row["made"], row["author"])
        corrections.append(Correction(number, made, author, _checked_facts(row["facts"]), entry))
    if len({one.number for one in corrections}) < len(corrections):
        raise ValueError("two corrections have the same number")
    facts = _checked_facts(header["memory"]["facts"])
    return Contents(header["fingerprint"], memory, facts, tuple(corrections), "checksum" in header)


def _checked_facts(facts: Any) -> Facts:
    if not isinstance(facts, dict):
        raise TypeError(f"expected facts as a JSON object, got {type(facts).__name__}")
    to_json(cast(Facts, facts))
    return cast(Facts, facts)


def checked_number(number: Any) -> int:
    """Return the number of a correction. Raises ValueError if it is none."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 1 << 62:
        raise ValueError(f"{str(number)[:40]!r} is not the number of a correction")
    return number


def checked_texts(*texts: Any) -> tuple[str, ...]:
    """Return texts. Raises TypeError if one is something else, or ValueError if it contains half a character."""
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"expected a text, got {str(text)[:40]!r}")
        text.encode()
    return cast(tuple[str, ...], texts)
