"""Recognise the format of a file or folder by looking at it, not only at the ending of its name."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapt.data.formats import lhotse
from adapt.data.formats.columns import AUDIO, KNOWN
from adapt.data.formats.folders import holds_texts
from adapt.data.formats.lines import read_head, read_text
from adapt.data.formats.table import best_delimiter, plain_name, split_tabs
from adapt.errors import InputError
from adapt.files import file_problem, is_file, is_folder, shown, user_path

Format = Literal[
    "JSON lines", "JSON array", "JSON object", "table", "lhotse cuts", "NeMo tarred manifest", "Kaldi folder",
    "audiofolder", "audio with texts", "dataset", "TMX",
]  # fmt: skip
PAIR_KEYS = frozenset(("source", "target", "src", "tgt", "translation", "source_text", "target_text"))
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.tsv")
_LOOK = 20  # lines
_HEAD = 1 << 20  # characters
_OBJECT = re.compile(r'\s*\{\s*"[^"]*"\s*:\s*\{')


@dataclass(frozen=True)
class Recognised:
    """What a path is.

    Attributes:
        format: the format.
        path: the file to read; for an audiofolder its metadata file.
        keys: the plain names of the columns or keys of the first rows, as far as they were looked at.
    """

    format: Format
    path: Path
    keys: frozenset[str] = frozenset()


def kind_of(path: Path | str | Sequence[Path | str]) -> Literal["speech", "pairs"] | None:
    """Return what the data of a path are, by a look at it: speech, sentence pairs, or None if neither is clear.

    A list of two files are pairs. A path that does not exist, or cannot be read, is None.
    """
    if not isinstance(path, (str, Path)):
        return "pairs" if len(path) == 2 else None
    try:
        found = recognise(user_path(path))
    except InputError:
        return None
    if found.format == "TMX":
        return "pairs"
    if found.format in ("JSON lines", "JSON array", "JSON object", "table"):
        if found.keys & {"source", "src", "translation"} and found.keys & PAIR_KEYS:
            return "pairs" if not found.keys & {"audio_filepath", "audio"} else None
        return "speech" if found.keys & frozenset(AUDIO) else None
    if found.format == "dataset":
        return "speech" if _has_audio(found.path) else None
    return "speech"


def recognise(path: Path) -> Recognised:
    """Return the format of a file or folder.

    Raises:
        InputError: it does not exist, cannot be read, or has no known format.
    """
    if is_folder(path):
        return _folder(path)
    problem = file_problem(path, "manifest")
    if problem is not None:
        raise InputError(
            f"{problem[0].upper()}{problem[1:]}. Expected a manifest (JSON lines, CSV, TSV, JSON) or a folder."
        )
    head = read_head(path)
    if head.startswith((b"PAR1", b"ARROW1")):
        return Recognised("dataset", path)
    if head[257:262] == b"ustar":
        raise InputError(f"{shown(path)} is a tar archive. Give the manifest that names its audio files.")
    lines = _first_lines(path)
    first = lines[0].strip() if lines else ""
    if first.startswith("<"):
        if any("<tmx" in line for line in lines):
            return Recognised("TMX", path)
        raise InputError(f"{shown(path)} is XML or HTML. Of XML, only TMX is read.")
    if first.startswith("[") and (not _is_json(first, list) or len(lines) == 1 and _holds_objects(first)):
        return Recognised("JSON array", path, _array_keys("\n".join(lines)))
    by_name = _name(path) == ".jsonl" or not lines and _name(path) in (".json", ".ndjson")
    if by_name or first.startswith(("{", "[")) or any(_is_json(line, dict) for line in lines):
        return _json(path, lines)
    return Recognised("table", path, _columns(lines))


def _folder(path: Path) -> Recognised:
    if is_file(path / "wav.scp"):
        return Recognised("Kaldi folder", path)
    if is_file(path / "dataset_dict.json"):
        raise InputError(f"{shown(path)} is a dataset with several splits. Give the folder of one: {_inside(path)}.")
    if is_file(path / "dataset_info.json") or is_file(path / "state.json"):
        return Recognised("dataset", path)
    metadata = [path / name for name in _METADATA if is_file(path / name)]
    if len(metadata) > 1:
        names = ", ".join(file.name for file in metadata)
        raise InputError(f"{shown(path)} has several lists of its audio: {names}. Give one of these files.")
    if metadata:
        return Recognised("audiofolder", metadata[0], recognise(metadata[0]).keys)
    if holds_texts(path):
        return Recognised("audio with texts", path)
    inner = [place.name for place in sorted(path.iterdir()) if any(is_file(place / name) for name in _METADATA)]
    if inner:
        raise InputError(f"{shown(path)} has lists of audio in the folders {', '.join(inner)}. Give one of these.")
    raise InputError(
        f"{shown(path)} is a folder without a manifest. There is no manifest metadata.csv or metadata.jsonl, no Kaldi "
        "wav.scp, and no audio file with a .txt beside it."
    )


def _json(path: Path, lines: Sequence[str]) -> Recognised:
    rows = [row for line in lines if (row := _parsed(line, dict)) is not None]
    if not rows and lines and (lines[0].rstrip().endswith(("{", ",")) or _OBJECT.match(lines[0]) and len(lines) == 1):
        return Recognised("JSON object", path, _object_keys("\n".join(lines)))
    if len(rows) == len(lines) == 1 and rows[0] and all(isinstance(value, dict) for value in rows[0].values()):
        inner = frozenset(plain_name(str(key)) for value in rows[0].values() for key in value)
        if not rows[0].keys() & (KNOWN | PAIR_KEYS):
            return Recognised("JSON object", path, inner)
    keys = frozenset(plain_name(str(key)) for row in rows for key in row)
    if any(lhotse.is_cut(row) for row in rows):
        return Recognised("lhotse cuts", path, keys)
    if "shard_id" in keys and "audio_filepath" in keys:
        return Recognised("NeMo tarred manifest", path, keys)
    other = next((kind for row in rows if (kind := lhotse.is_other(row)) is not None), None)
    if other is not None and not keys & frozenset(AUDIO):
        raise InputError(f"{shown(path)} has lhotse's {other} only. Give the cuts: cuts.jsonl.gz.")
    return Recognised("JSON lines", path, keys)


def _has_audio(path: Path) -> bool:
    """Return whether a dataset's description, or the first and last bytes of its file, name an Audio column."""
    description = path / "dataset_info.json" if is_folder(path) else path
    if not is_file(description):
        return False
    with description.open("rb") as file:
        start = file.read(1 << 16)
        file.seek(max(0, description.stat().st_size - (1 << 16)))  # Parquet's description is at the end
        return b'"Audio"' in start + file.read()


def _first_lines(path: Path) -> list[str]:
    """Return the first lines with text, up to `_LOOK` of them. A single line may be cut short."""
    lines = read_text(path, "manifest", _HEAD).split("\n")
    whole = lines[:-1] if len(lines) > _LOOK else lines
    return [line for line in whole if line.strip()][:_LOOK]


def _columns(lines: Sequence[str]) -> frozenset[str]:
    header = next((line for line in lines if not line.lower().startswith("sep=")), "")
    delimiter = best_delimiter(header, KNOWN | PAIR_KEYS)
    cells = split_tabs(header) if delimiter == "\t" else header.split(delimiter)
    return frozenset(plain_name(cell.strip().strip('"')) for cell in cells)


def _array_keys(text: str) -> frozenset[str]:
    start = text.find("{")
    try:
        row, _ = json.JSONDecoder().raw_decode(text, max(start, 0))
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(plain_name(str(key)) for key in row) if isinstance(row, Mapping) else frozenset()


def _object_keys(text: str) -> frozenset[str]:
    start = text.find("{", text.find("{") + 1)
    return _array_keys(text[start:]) if start > 0 else frozenset()


def _holds_objects(line: str) -> bool:
    values = _parsed(line, list)
    return values == [] or (isinstance(values, list) and isinstance(values[0], dict))


def _is_json(line: str, kind: type) -> bool:
    return _parsed(line, kind) is not None


def _parsed(line: str, kind: type) -> Any:
    try:
        value = json.loads(line, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def _name(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return os.path.splitext(name)[1]


def _inside(path: Path) -> str:
    return ", ".join(sorted(str(place) for place in path.iterdir() if is_folder(place)))
