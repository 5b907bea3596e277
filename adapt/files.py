"""Whole files or none: every file that a run leaves is written beside its place, synced, and renamed into it."""

import json
from pathlib import Path
from typing import Any

from interventions.files import atomic


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. Raises ValueError on NaN: it is not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
