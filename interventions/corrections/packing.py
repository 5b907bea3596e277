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
from typing import Any, NoReturn, cast

from torch import Tensor

from interventions.corrections.checks import check_entry, check_layer, check_memory
from interventions.corrections.collection import Entry
from interventions.corrections.gate import BackgroundStatistics
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Memory
from interventions.corrections.protect import Protected
from interventions.files import FileError, site_from_json, site_to_json

_XZ = b"\xfd7zXZ"  # the first bytes of lzma's output
_DICTIONARY = 256 << 20  # bytes of memory that lzma may take
LARGEST_ENTRY = 64 << 20  # bytes of an unpacked correction: about an hour of speech at a small layer
_LARGEST_SAMPLE = 64 << 20  # bytes of a memory's tensors other than the second moments
_OLD_LEVELS = 256  # quantisation levels of formats 1 and 2
_PROTECTED = ("input_step", "value_step", "second", "projection", "offset", "sample")
ENTRY = ("inputs", "values", "targets", "radii")
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


def layer_from(header: Mapping[str, Any]) -> AffineLayer:
    """Return the layer of a memory. Raises KeyError, TypeError or ValueError if the header does not describe one."""
    layer = AffineLayer(**header["layer"] | {"site": site_from_json(header["layer"]["site"])})
    check_layer(layer)
    return layer


def memory_from(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], folded: Tensor | None, gated: bool = True
) -> Memory:
    """Return the empty memory that `memory_to_json` and `memory_tensors` describe, in any format.

    Args:
        header: the JSON data.
        tensors: the tensors by name.
        folded: see `Memory`.
        gated: see `Memory.new`.

    Raises:
        KeyError, TypeError, ValueError: If the data do not describe a memory.
    """
    layer = layer_from(header)
    background = None
    if f"gate.{_BACKGROUND[0]}" in tensors:
        background = BackgroundStatistics(*(tensors[f"gate.{name}"] for name in _BACKGROUND))
    levels = header.get("quantisation_levels", header.get("grain", _OLD_LEVELS))
    protected = Protected(
        layer, **{name: tensors[name] for name in _PROTECTED}, background=background, quantisation_levels=levels
    )
    check_memory(protected, header["strength"], folded)
    return Memory.new(protected, header["strength"], folded, gated)


def memory_bytes(layer: AffineLayer) -> int:
    """Return the largest plausible size in bytes of the unpacked tensors of a memory at a layer."""
    return 4 * (layer.width + 1) ** 2 + _LARGEST_SAMPLE


def pack_entry(entry: Entry) -> bytes:
    """Return a correction as compressed safetensors (compressed with zlib in formats 1 and 2)."""
    return lzma.compress(_serialise({name: getattr(entry, name) for name in ENTRY}))


def entry_from(tensors: Mapping[str, Tensor], protected: Protected) -> Entry:
    """Return the correction that these tensors describe, in any format.

    Raises:
        KeyError, ValueError: If the tensors are not those of a correction of this memory.
    """
    named = {name: tensors.get(name, tensors.get(_OLD_NAMES.get(name, name))) for name in ENTRY}
    if named["targets"] is None and named["values"] is not None:
        named["targets"] = named["values"].clone()
    missing = [name for name, tensor in named.items() if tensor is None]
    if missing:
        raise KeyError(missing[0])
    entry = Entry(**{name: tensor for name, tensor in named.items() if tensor is not None})
    check_entry(entry, protected)
    return entry


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as safetensors, compressed with zlib because lzma takes seconds for large ones."""
    return zlib.compress(_serialise(tensors), 6)


def unpack(blob: bytes, largest: int = LARGEST_ENTRY) -> dict[str, Tensor]:
    """Return the tensors that `pack` or `pack_entry` wrote. Raises ValueError beyond `largest` bytes."""
    from safetensors.torch import load

    if not isinstance(cast(Any, blob), bytes):
        raise TypeError(f"expected bytes, got {type(blob).__name__}")
    if blob.startswith(_XZ):
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_DICTIONARY)
        data = decoder.decompress(blob, largest + 1)
    else:
        decoder = zlib.decompressobj()
        data = decoder.decompress(blob, largest + 1)
    if len(data) > largest:
        raise ValueError(f"its {len(blob):,} bytes unpack to more than {largest:,}")
    if not decoder.eof:
        raise ValueError("its end is missing")
    return load(data)


def to_json(facts: Mapping[str, Any]) -> str:
    """Return facts as JSON text for a store. Raises ValueError if they are not JSON, or contain half a character."""
    try:
        text = json.dumps(facts, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, UnicodeEncodeError) as error:
        raise ValueError(f"The facts of a correction cannot be stored as JSON: {error}.") from None
    return text


def from_json(text: str) -> dict[str, Any]:
    """Return facts that `to_json` wrote. Raises TypeError or ValueError for anything else."""
    if not isinstance(cast(Any, text), str):
        raise TypeError(f"expected JSON text, got {type(text).__name__}")
    facts = json.loads(text, parse_constant=_no_constant)
    if not isinstance(facts, dict):
        raise TypeError(f"expected a JSON object, got {text[:40]!r}")
    return cast(dict[str, Any], facts)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


@contextmanager
def damage(what: str, advice: str) -> Generator[None, None, None]:
    """Raise FileError if the block fails because the data that it reads are damaged."""
    from safetensors import SafetensorError

    try:
        yield
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError, AttributeError, RuntimeError) as error:
        raise FileError(f"{what} is damaged ({type(error).__name__}: {error}). {advice}") from None
    except (zlib.error, lzma.LZMAError, SafetensorError, EOFError) as error:
        raise FileError(f"{what} is damaged ({error}). {advice}") from None


def _serialise(tensors: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
