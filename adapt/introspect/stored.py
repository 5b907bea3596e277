"""Read the JSON files of results."""

import json
from pathlib import Path
from typing import Any

from interventions.files import FileError


def read_result(path: Path, newest: int) -> dict[str, Any]:
    """Return the JSON object in the file of a result. A file without `format` is of version 1.

    Raises:
        FileError: The file is missing, damaged, or of a format newer than `newest`.
    """
    if not path.is_file():
        raise FileError(f"There is no file '{path}'.")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"'{path}' is not a complete JSON file ({error}). Measure again.") from None
    if not isinstance(stored, dict):
        raise FileError(f"'{path}' does not hold a result.")
    version = stored.setdefault("format", 1)
    if not isinstance(version, int) or version > newest:
        raise FileError(f"'{path}' has format {version!r}, and this version reads up to {newest}. Update innertune.")
    return stored
