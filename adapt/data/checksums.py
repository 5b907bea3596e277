"""The checksums of many files: read in several threads, and remembered between runs while a file does not change."""

import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from adapt.data import remembered
from adapt.data.threads import in_threads

_CHUNK = 250  # files that a thread gets at once
_SMALL = 1 << 22  # bytes: smaller files are read at once, which is faster


def checksums(paths: Collection[Path]) -> dict[Path, str]:
    """Return the SHA-256 of each file as hexadecimal text. Raises OSError for a file that cannot be read."""
    files = list(paths)
    chunks = (files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK))
    found: dict[Path, str] = {}
    new: dict[bytes, remembered.Entry] = {}
    for chunk in in_threads(_of_chunk, chunks):
        for path, checksum, key, entry in chunk:
            found[path] = checksum
            if entry is not None:
                new[key] = entry
    remembered.keep(new)
    return found


def _of_chunk(paths: Sequence[Path]) -> list[tuple[Path, str, bytes, remembered.Entry | None]]:
    keys = [remembered.key_of("sha256", path) for path in paths]
    known = remembered.find(keys)
    made: list[tuple[Path, str, bytes, remembered.Entry | None]] = []
    for path, key in zip(paths, keys, strict=True):
        state = os.stat(path)
        entry = known.get(key)
        if entry is not None and entry[0] == remembered.identity(state):
            made.append((path, entry[1].hex(), key, None))
            continue
        with open(path, "rb") as file:
            small = state.st_size <= _SMALL
            digest = (hashlib.sha256(file.read()) if small else hashlib.file_digest(file, "sha256")).digest()
        entry = (remembered.identity(state), digest) if remembered.settled(state) else None
        made.append((path, digest.hex(), key, entry))
    return made
