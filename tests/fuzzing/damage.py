"""Damage bytes, JSON values and safetensors files at random. Each function also says in words what it did."""

import json
import random
import struct
from collections.abc import Sequence
from typing import Any

# Values of every JSON type, and the extremes of each.
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 7, 2**31, 2**63, 10**40, -(2**63), 0.5, -0.5, 1e308, float("nan"), float("inf"),
    "", "a", "-1", "../../etc/passwd", "\0", "\ud83d", "é" * 300, [], [[]], [1, "a", None], {}, {"a": {"b": []}},
)  # fmt: skip

# What text files and their parsers trip over.
PIECES = (
    b"\x00", b"\xff", b'"', b"'", b"{", b"}", b"[", b"]", b"\n", b"\r", b"\t", b",", b";", b"|", b":", b"/", b"~", b"<",
    b"\\ud83d", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\xa9", b"NaN", b"9" * 400, b"[" * 3000, b"null", b"-1", b"1e999",
    b"&a;", b"..", b"{data_root}/",
)  # fmt: skip
LIES = (0, 1, 7, 96_000, 1_000_000_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # sizes and rates that headers may claim


def damage_bytes(draw: random.Random, data: bytes) -> tuple[str, bytes]:
    """Damage a file's bytes as disks, transfers and editors do."""
    at = draw.randrange(len(data)) if data else 0
    length = min(len(data) - at, draw.choice([1, 4, 16, 512]))
    noise = draw.randbytes(length)
    ways = {
        "empty": b"",
        f"cut at byte {at}": data[:at],
        f"bit flipped at byte {at}": data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
        if data
        else b"\0",
        f"{length} zeros at byte {at}": data[:at] + bytes(length) + data[at + length :],
        f"{length} random bytes at byte {at}": data[:at] + noise + data[at + length :],
        f"{length} bytes missing at byte {at}": data[:at] + data[at + length :],
        f"{length} bytes inserted at byte {at}": data[:at] + noise + data[at:],
        "zeros only": bytes(len(data)),
        "random bytes only": draw.randbytes(min(len(data), 4096)),
        "a web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "two copies": data + data,
    }
    what = draw.choice(list(ways))
    return what, ways[what]


def damage_text(draw: random.Random, data: bytes) -> tuple[str, bytes]:
    """Change a few places of a text file: insert, delete, replace or repeat a piece, or cut the file off."""
    done: list[str] = []
    for _ in range(draw.choice([1, 1, 2, 4, 8])):
        at, way = draw.randrange(len(data) + 1), draw.random()
        if way < 0.4:
            piece = draw.choice(PIECES)
            done.append(f"{ascii(piece)[:20]} inserted at byte {at}")
            data = data[:at] + piece + data[at:]
        elif way < 0.6:
            length = draw.choice([1, 3, 10, 100])
            done.append(f"{length} bytes missing at byte {at}")
            data = data[:at] + data[at + length :]
        elif way < 0.75:
            done.append(f"byte {at} replaced")
            data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
        elif way < 0.85:
            done.append(f"cut at byte {at}")
            data = data[:at]
        else:
            start = draw.randrange(len(data) + 1)
            done.append(f"bytes {start} to {start + 50} repeated at byte {at}")
            data = data[:at] + data[start : start + 50] + data[at:]
    return "; ".join(done), data


def damage_header(draw: random.Random, data: bytes) -> tuple[str, bytes]:
    """Change a few places of a binary file, more often near its beginning, where sizes and rates are."""
    done: list[str] = []
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(min(len(data), draw.choice([64, 256, len(data)])) or 1)
        lie = draw.choice(LIES).to_bytes(4, "little" if draw.random() < 0.5 else "big")
        what, new = draw.choice(
            [
                ("replaced", bytes([draw.randrange(256)])), ("claims", lie), ("claims", lie), ("zeros", bytes(20)),
                ("random bytes", draw.randbytes(20)),
            ]
        )  # fmt: skip
        done.append(f"{what} at byte {at}: {new.hex()[:16]}")
        data = data[:at] + new + data[at + len(new) :]
    return "; ".join(done), data


def damage_json(draw: random.Random, value: Any) -> tuple[str, Any]:
    """Return a copy of a JSON value in which one place, at any depth, is replaced, removed or added."""
    value = json.loads(json.dumps(value))
    places = list(_places(value))
    path = draw.choice(places) if places else ()
    if not path:
        new = draw.choice(VALUES)
        return f"everything = {_short(new)}", new
    *above, key = path
    parent = value
    for step in above:
        parent = parent[step]
    name = ".".join(map(str, path))
    way = draw.random()
    if way < 0.15:
        del parent[key]
        return f"{name} removed", value
    if way < 0.25 and isinstance(parent, list):
        parent.insert(key, parent[key])
        return f"{name} twice", value
    parent[key] = new = draw.choice(VALUES)
    return f"{name} = {_short(new)}", value


def damage_json_file(draw: random.Random, data: bytes) -> tuple[str, bytes]:
    """Damage a JSON file: a value in it, its text, or its bytes."""
    way = draw.random()
    if way < 0.75:
        what, value = damage_json(draw, json.loads(data))
        return what, json.dumps(value).encode()  # lone surrogates, NaN and infinity as Python's own JSON writes them
    if way < 0.85:
        return damage_bytes(draw, data)
    texts = {
        "an object in an object 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "a list in a list 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
        "an integer of 5,000 digits": b"1" * 5000,
        "a byte order mark": b"\xef\xbb\xbf" + data,
        "UTF-16": data.decode().encode("utf-16"),
        "Latin-1": data[:-1] + b', "\xe9": 1}',
        "a line after the end": data + b"\n{}",
        "a comma before the end": data.rstrip()[:-1] + b",}",
    }
    what = draw.choice(list(texts))
    return what, texts[what]


def damage_safetensors(draw: random.Random, data: bytes, metadata: str = "innertune") -> tuple[str, bytes]:
    """Damage a safetensors file: its bytes, its header, or the JSON text in the metadata entry `metadata`."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    way = draw.randrange(5)
    if way == 0:
        return damage_bytes(draw, data)
    if way == 1:
        claimed = draw.choice([0, 1, length - 1, length + 1, len(data), 2**31, 2**63, 2**64 - 1])
        return f"header claims {claimed} bytes", struct.pack("<Q", claimed) + data[8:]
    if way == 2 and metadata in header.get("__metadata__", {}):
        what, inner = damage_json_file(draw, header["__metadata__"][metadata].encode())
        header["__metadata__"][metadata] = inner.decode(errors="replace")
        return f"metadata: {what}", safetensors_bytes(header, body)
    if way == 3:
        name = draw.choice([name for name in header if name != "__metadata__"] or list(header))
        offsets = draw.choice([[0, 1], [0, 0], [8, 4], [0, 2**40], [2**62, 2**63], [-4, 4], [len(body), len(body) + 4]])
        if name in header and "data_offsets" in header[name]:
            header[name]["data_offsets"] = offsets
        return f"{name}: offsets {offsets}", safetensors_bytes(header, body)
    what, header = damage_json(draw, header)
    return f"header: {what}", safetensors_bytes(header, body)


def safetensors_bytes(header: Any, body: bytes) -> bytes:
    """Return a safetensors file of this header and body."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value[:20]))
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
