"""Files: written completely or not at all, and examined without an exception for any name that a user may give.

`Path.exists`, `is_file`, `resolve` and `expanduser` raise OSError, RuntimeError or ValueError for some names (300
characters, a loop of links, a NUL, an unknown user). The functions here answer for every name.
"""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from adapt.errors import InputError
from interventions.files import atomic

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, atomically. A lone surrogate, as in a file name that is not UTF-8, becomes its escape."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def has_surrogate(text: str) -> bool:
    """Return whether a text contains half of a character, which no file can hold."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Raises ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Return the value in a JSON file.

    Raises:
        OSError: there is no such file, it cannot be read, or it is a pipe, a device or a folder.
        ValueError: it is not JSON in UTF-8, is nested too deeply, or has an integer of thousands of digits.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would wait for ever
        raise OSError(errno.EINVAL, "not a file", str(path))
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def user_path(path: Path | str) -> Path:
    """Return the path with a leading `~` replaced by the home folder. That of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))


def is_file(path: Path | str) -> bool:
    """Return whether there is a regular file, also behind a link. False if the name cannot be one."""
    return os.path.isfile(path)


def is_folder(path: Path | str) -> bool:
    """Return whether there is a folder, also behind a link. False if the name cannot be one."""
    return os.path.isdir(path)


def exists(path: Path | str) -> bool:
    """Return whether there is anything of that name. False for a link to nothing, or if the name cannot be one."""
    return os.path.exists(path)


def matching(folder: Path | str, pattern: str) -> list[Path]:
    """Return the paths below a folder that match a glob, sorted; none if it is not a folder."""
    return sorted(Path(folder).glob(pattern)) if os.path.isdir(folder) else []


def resolved(path: Path | str) -> Path:
    """Return the absolute path without links. A name that cannot be resolved is only made absolute."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(path).absolute()


def shown(path: Path | str) -> str:
    """Return a path for a message: quoted, on one line, with escapes for what cannot be printed, and not too long."""
    text = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in str(path)
    )
    return f"'{text}'" if len(text) <= 200 else f"'{text[:60]}...{text[-60:]}'"


def file_problem(path: Path | str, what: str = "file") -> str | None:
    """Return why `path` cannot be read as a file, such as "there is no file 'x'"; None if it can.

    Args:
        path: the file.
        what: what the file should be, such as "manifest".
    """
    problem = name_problem(path)
    if problem is not None:
        return problem
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return _stat_problem(path, error, what)
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            return f"there is no {what} {shown(path)}: it is {kind}"
    return None if os.access(path, os.R_OK) else f"{shown(path)} cannot be read: permission denied"


def folder_problem(path: Path | str) -> str | None:
    """Return why `path` cannot be, or become, a folder to write to; None if nothing speaks against it.

    The operating system may still refuse, as it does in /proc: `make_folder` reports that.
    """
    problem = name_problem(path)
    if problem is not None:
        return problem
    whole = Path(path).absolute()
    for place in (whole, *whole.parents):
        if os.path.isdir(place):
            return (
                None if os.access(place, os.W_OK | os.X_OK) else f"{shown(place)} cannot be written: permission denied"
            )
        if os.path.exists(place):
            return f"{shown(place)} is a file"
        if os.path.islink(place):
            return f"{shown(place)} is a link to {shown(os.readlink(place))}, which does not exist"
    return None


def make_folder(path: Path | str, argument: str = "output") -> None:
    """Create a folder with its parents; it may exist.

    Raises:
        InputError: it cannot be created. The message begins with `argument`=`path`.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = folder_problem(path) or getattr(error, "strerror", None) or str(error)
        raise InputError(f"{argument}={path}: the folder cannot be created ({reason}). Give another one.") from None


def name_problem(path: Path | str) -> str | None:
    """Return why no file can have this name: a NUL, a name that is too long or is not UTF-8; None if it can."""
    text = str(path)
    if "\0" in text:
        return f"the name {shown(path)} contains a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return f"the name {shown(path)} is not UTF-8: rename the file"
    longest = max((len(name.encode()) for name in text.split("/")), default=0)
    if longest > 255:
        return f"the name {shown(path)} is too long: it has {longest} bytes, and a file name at most 255"
    return f"the path {shown(path)} is too long" if len(text.encode()) >= 4096 else None


def _stat_problem(path: Path | str, error: OSError, what: str) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if os.path.islink(path):
            return f"{shown(path)} is a link to {shown(os.readlink(path))}, which does not exist"
        return f"there is no {what} {shown(path)}"
    if error.errno == errno.ELOOP:
        return f"{shown(path)} is a link that leads back to itself"
    return f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}"
