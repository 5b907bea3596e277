"""Create a folder completely or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from adapt.errors import InputError
from adapt.files import exists, is_folder


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `folder`, which becomes `folder` when the context ends without an error.

    Raises:
        InputError: the folder is not empty, or its name is that of a file. Nothing was written.
    """
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield made
        mask = _umask()
        made.chmod(0o777 & ~mask)  # temporary folders, and some of the files, are readable by their owner only
        for path in made.iterdir():
            path.chmod(0o666 & ~mask)
            _sync(path)
        made.replace(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def check_new(folder: Path) -> None:
    """Check that a folder is new or empty. Raises InputError."""
    for place in (folder, *folder.parents):
        if exists(place) and not is_folder(place):
            raise InputError(f"folder={folder}: '{place}' is a file. Give a new folder.")
    if exists(folder) and any(folder.iterdir()):
        raise InputError(f"The folder '{folder}' is not empty. Give a new folder.")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
