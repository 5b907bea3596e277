"""Choices that follow from what the user gives: `data=manifest` from a file, the model's family from its folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapt.files import exists, user_path
from adapt.models.locate import embedded_models, is_hub_id
from adapt.models.peek import stored_model
from adapt.options.quoting import split_list
from adapt.options.words import Option

_SPLITS = ("train", "validation", "test", "source_test", "source_train", "source_validation")
_NAMES = ("before", "after")  # the models of `compare`
_FIRST_LINE = 100_000  # characters of a file's first line that are looked at


def model_choice(options: Sequence[Option], composed: Mapping[str, Any]) -> str | None:
    """Return the choice of `model` that fits `model.pretrained`, or None if the present one does.

    The default of `adapt` and `pretrain` builds a small Wav2Letter. A model of another family loads with
    model=pretrained, which takes the options of the model's own family.
    """
    node = composed.get("model")
    given = _value(options, "model.pretrained")
    if not isinstance(node, Mapping) or not given or not str(node.get("_target_")).endswith(".wav2letter_small"):
        return None
    header = stored_model(given)
    small = header.get("family") in (None, "wav2letter") and header.get("shape", {"inner": 1}).get("inner") is not None
    return None if small and not is_hub_id(given) else "pretrained"


def data_choice(options: Sequence[Option], composed: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the choice of `data` for the user's own files and the option that gives one, or None.

    Files are sentence pairs if the model translates, or if they look so; otherwise they are recordings.
    """
    node = composed.get("data")
    if not isinstance(node, Mapping) or any(option.key == "experiment" for option in options):
        return None  # an experiment chooses its data, and sets their options
    given = {o.key: o.value for o in options if o.key.removeprefix("data.") in _SPLITS and o.key.startswith("data.")}
    files = {key: value for key, value in given.items() if value and not _is_plain(value)}
    if not files:
        return None
    key, value = next(iter(files.items()))
    generated = isinstance(node.get("test"), int)  # utterances or sentences that are made on the spot
    pairs = any(map(_looks_like_pairs, files.values()))
    if not pairs and not any(map(_looks_like_speech, files.values())):
        pairs = _family(options, composed) == "hf_translation"
    if generated or (pairs and str(node.get("_target_")).endswith(".read_splits")):
        return "pairs" if pairs else "manifest", f"{key}={value}"
    return None


def is_file(value: str) -> bool:
    """Return whether a value of `data=` looks like a file or folder."""
    return "/" in value or value.startswith("~") or bool(Path(value).suffix) or (value != "" and exists(value))


def is_model(value: str) -> bool:
    """Return whether a value of `model=` looks like a model itself: a path, an embedded name or OWNER/NAME."""
    if value in embedded_models() or is_hub_id(value) or "/" in value or value.startswith("~"):
        return True
    return value != "" and exists(value)


def _family(options: Sequence[Option], composed: Mapping[str, Any]) -> str:
    node = composed.get("model")
    target = str(node.get("_target_")).rpartition(".")[2] if isinstance(node, Mapping) else ""
    if target == "hf_translation":
        return target
    given = next((value for name in ("model.pretrained", *_NAMES) if (value := _value(options, name))), None)
    default = node.get("pretrained") if isinstance(node, Mapping) else None
    return str(stored_model(str(given or default or "")).get("family", ""))


def _value(options: Sequence[Option], key: str) -> str | None:
    given = [option.value for option in options if option.key == key and option.value not in (None, "null")]
    return str(given[-1]).strip("'\"") if given else None


def _is_plain(value: str) -> bool:
    """Whether a value is a number, null, or an interpolation such as `${data.test}`: no file."""
    parts = [part.strip() for part in value.split(",")]
    return all(part.lstrip("-").isdecimal() or part == "null" or part.startswith(("${", "range(")) for part in parts)


def _files(value: str) -> list[Path]:
    inside = value[1:-1] if value[:1] + value[-1:] == "[]" else value
    return [user_path(part.strip("'\"")) for part in split_list(inside) if part]


def _looks_like_pairs(value: str) -> bool:
    files = _files(value)
    if value[:1] + value[-1:] == "[]" and len(files) == 2:  # two text files with parallel lines
        return all(file.suffix.lower() not in (".jsonl", ".json", ".wav", ".flac") for file in files)
    return any({"source", "target"} <= _keys(file) for file in files)


def _looks_like_speech(value: str) -> bool:
    return any(not _keys(file).isdisjoint({"audio_filepath", "audio", "path", "wav", "file"}) for file in _files(value))


def _keys(path: Path) -> set[str]:
    """Return the keys of the first line of a JSONL, TSV or CSV file; empty if it has none."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            line = file.readline(_FIRST_LINE).strip()
    except (OSError, ValueError):
        return set()
    try:
        row = json.loads(line)
        return {str(key) for key in row} if isinstance(row, dict) else set()
    except ValueError:
        separator = "\t" if "\t" in line else ","
        return {cell.strip().strip('"').lower() for cell in line.split(separator)} if separator in line else set()
