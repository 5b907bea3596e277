"""Read the JSON files of results."""

from pathlib import Path
from typing import Any

from adapt.files import is_file, read_json
from interventions.files import FileError


def read_result(path: Path, newest: int) -> dict[str, Any]:
    """Return the JSON object in the file of a result. A file without `format` is of version 1.

    Raises:
        FileError: The file is missing, damaged, or of a format newer than `newest`.
    """
    if not is_file(path):
        raise FileError(f"There is no file '{path}'.")
    try:
        stored = read_json(path)
    except (OSError, ValueError) as error:
        raise FileError(f"'{path}' is not a complete JSON file ({error}). Measure again.") from None
    if not isinstance(stored, dict):
        raise FileError(f"'{path}' does not hold a result.")
    version = stored.setdefault("format", 1)
    if not isinstance(version, int) or version > newest:
        raise FileError(f"'{path}' has format {version!r}, and this version reads up to {newest}. Update innertune.")
    return stored
