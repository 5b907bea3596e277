"""Convert memories and corrections to and from the bytes and JSON that a correction store contains.

Format 4 has the contents of format 3 under clearer names (`targets`, `quantisation_levels`). Formats 1 to 3 can be
read; formats 1 and 2 have no gate, and their regression targets are the changes themselves.
"""

import json
import lzma
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from torch import Tensor

from interventions.corrections.collection import Entry
from interventions.corrections.gate import BackgroundStatistics
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Memory
from interventions.corrections.protect import Protected
from interventions.files import FileError, site_from_json, site_to_json

_XZ = b"\xfd7zXZ"  # the first bytes of lzma's output
_OLD_LEVELS = 256  # quantisation levels of formats 1 and 2
_PROTECTED = ("input_step", "value_step", "second", "projection", "offset", "sample")
_ENTRY = ("inputs", "values", "targets", "radii")
_OLD_NAMES = {"targets": "pulls"}  # in format 3
_BACKGROUND = ("axes", "centre", "mean", "deviation", "rows")  # stored as gate.NAME, if the layer can have a gate


def memory_to_json(memory: Memory) -> dict[str, Any]:
    """Return everything about an empty memory except its tensors, as JSON data."""
    layer = asdict(memory.protected.layer) | {"site": site_to_json(memory.protected.layer.site)}
    levels = memory.protected.quantisation_levels
    return {"layer": layer, "strength": memory.ridge_strength, "quantisation_levels": levels}


def memory_tensors(protected: Protected) -> dict[str, Tensor]:
    """Return the tensors of an empty memory by name."""
    tensors: dict[str, Tensor] = {name: getattr(protected, name) for name in _PROTECTED}
    background = protected.background
    if background is not None:
        tensors |= {f"gate.{name}": getattr(background, name) for name in _BACKGROUND}
    return tensors


def memory_from(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], folded: Tensor | None, gated: bool = True
) -> Memory:
    """Return the empty memory that `memory_to_json` and `memory_tensors` describe, in any format.

    Args:
        header: the JSON data.
        tensors: the tensors by name.
        folded: see `Memory`.
        gated: see `Memory.new`.
    """
    layer = AffineLayer(**header["layer"] | {"site": site_from_json(header["layer"]["site"])})
    background = None
    if f"gate.{_BACKGROUND[0]}" in tensors:
        background = BackgroundStatistics(*(tensors[f"gate.{name}"] for name in _BACKGROUND))
    levels = header.get("quantisation_levels", header.get("grain", _OLD_LEVELS))
    protected = Protected(
        layer, **{name: tensors[name] for name in _PROTECTED}, background=background, quantisation_levels=levels
    )
    return Memory.new(protected, header["strength"], folded, gated)


def pack_entry(entry: Entry) -> bytes:
    """Return a correction as compressed safetensors (compressed with zlib in formats 1 and 2)."""
    return lzma.compress(_serialise({name: getattr(entry, name) for name in _ENTRY}))


def entry_from(tensors: Mapping[str, Tensor]) -> Entry:
    """Return the correction that these tensors describe, in any format."""
    named = {name: tensors.get(name, tensors.get(_OLD_NAMES.get(name, name))) for name in _ENTRY}
    if named["targets"] is None and named["values"] is not None:
        named["targets"] = named["values"].clone()
    missing = [name for name, tensor in named.items() if tensor is None]
    if missing:
        raise KeyError(missing[0])
    return Entry(**{name: tensor for name, tensor in named.items() if tensor is not None})


def exported_entry(number: int, tensors: Mapping[str, Tensor]) -> Entry | None:
    """Return a correction from the tensors of an export, or None if it has no tensors."""
    prefix = f"{number}."
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return entry_from(found) if found else None


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as safetensors, compressed with zlib because lzma takes seconds for large ones."""
    return zlib.compress(_serialise(tensors), 6)


def unpack(blob: bytes) -> dict[str, Tensor]:
    """Return the tensors that `pack` or `pack_entry` wrote."""
    from safetensors.torch import load

    return load(lzma.decompress(blob) if blob.startswith(_XZ) else zlib.decompress(blob))


def to_json(facts: Mapping[str, Any]) -> str:
    """Return facts as JSON text for a store."""
    return json.dumps(facts, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


@contextmanager
def damage(what: str, advice: str) -> Generator[None, None, None]:
    """Raise FileError if the block fails because the data that it reads are damaged."""
    from safetensors import SafetensorError

    try:
        yield
    except (zlib.error, lzma.LZMAError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FileError(f"{what} is damaged ({error}). {advice}") from None


def _serialise(tensors: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
