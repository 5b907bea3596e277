"""Audio that is inside other files (NeMo's tar archives, Hugging Face's tables), unpacked once into the cache."""

import hashlib
import os
import shutil
from pathlib import Path

from adapt.errors import InputError
from adapt.files import is_file, make_folder, shown
from interventions.files import atomic

LARGEST = 1 << 30  # bytes of one recording: 4 hours of 16-bit audio at 48 kHz have 1.4 GB, of FLAC half of it
_SUFFIXES = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"FORM": ".aiff", b".snd": ".au"}


def cache_folder() -> Path:
    """Return the folder for unpacked audio, below $INNERTUNE_CACHE or ~/.cache/innertune."""
    base = os.environ.get("INNERTUNE_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "innertune")
    return Path(base).absolute() / "unpacked"


def store(data: bytes, name: str, folder: Path | None = None) -> Path:
    """Write audio to the cache under a name made of its content, unless it is there. Returns the file.

    Args:
        data: the audio file's bytes.
        name: its name, for the suffix only.
        folder: another folder than `cache_folder()`.

    Raises:
        InputError: the cache cannot be written, or the disk is nearly full.
    """
    folder = cache_folder() if folder is None else folder
    digest = hashlib.sha256(data).hexdigest()[:32]
    suffix = os.path.splitext(name)[1].lower()
    if not suffix[1:].isalnum() or len(suffix) > 6:
        suffix = next((own for magic, own in _SUFFIXES.items() if data.startswith(magic)), ".audio")
    path = folder / digest[:2] / f"{digest}{suffix}"
    if is_file(path) and path.stat().st_size == len(data):
        return path
    make_folder(path.parent, "INNERTUNE_CACHE")
    if shutil.disk_usage(path.parent).free < 2 * len(data) + (1 << 26):
        raise InputError(f"The disk of {shown(folder)} is nearly full. Set INNERTUNE_CACHE to a folder on another one.")
    with atomic(path) as part:
        part.write_bytes(data)
    return path
