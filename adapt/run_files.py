"""The list of the files that a run has written, which is what `overwrite=true` deletes.

The list is `files.jsonl` in the run's folder: one path per line as JSON, relative to the folder; folders end in "/". A
path is added before the file or folder is created, so that the list of a killed run is complete. Code that writes below
the folder need not know about the list: Python announces each file that it is about to create (an audit hook, PEP 578).
"""

import errno
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from adapt.errors import InputError
from adapt.files import write_text

NAME = "files.jsonl"
# What versions without a list wrote. They are supported until the next format version.
_OLD_FOLDERS = ("checkpoints", "adaptation", "log", "scores", "maps", "probes", "neurons")
_OLD_FILES = (
    "metrics.json", "card.json", "report.html", "comparison.json", "transcripts.jsonl", "sweep.html", "steering.html",
    "steering.safetensors", "vectors.safetensors", "scores*.safetensors", "choice*.safetensors", "choice-rates.json",
    "choice.html", "choice.json", "profiles.safetensors", "profiles.json", "profiles.html", "similarity.safetensors",
    "similarity.html", "probes.html", "topography.html", "weights.html", "weights.json", "attribution.html",
    "attribution.json", "bias.html", "bias.json", "model.safetensors", "config.json", "config.yaml",
)  # fmt: skip
_MISSING = (errno.ENOENT, errno.ENOTDIR)
# The audit events at which a file or folder is created, and the number of the argument that is its path.
_CREATING = {"open": 0, "os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1}


class FileRecorder:
    """Records, until `stop`, each file and folder that this process creates below `folder` in the folder's list.

    Args:
        folder: The run's folder, which exists.
        listed: The paths that a new list starts with. None appends to the existing list, next to another process.
    """

    def __init__(self, folder: Path, listed: Iterable[str] | None) -> None:
        self._folder = folder
        if listed is not None:
            _write(folder, {*listed, NAME})
        self._listed = set(read_list(folder) or ())
        # What others put into listed folders before this process began, such as a user's notes in a killed run.
        self._others = self._in_folders(self._listed) - self._listed
        self._file = os.open(folder / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        # If a folder is a link, libraries may use its target's path (Lightning resolves the folder of checkpoints).
        links = {entry.name: entry.path for entry in os.scandir(folder) if entry.is_symlink() and os.path.isdir(entry)}
        roots = {os.path.abspath(folder): "", os.path.realpath(folder): ""}
        roots |= {os.path.realpath(path): name for name, path in links.items()}
        self._roots = sorted(roots.items(), key=lambda root: -len(root[0]))
        _start(self)

    def add(self, path: str, is_folder: bool = False) -> None:
        """Add a path below the run's folder; others are ignored."""
        path = os.path.abspath(path)
        for root, name in self._roots:
            if path.startswith(root + os.sep):
                entry = os.path.join(name, path[len(root) + 1 :]) + ("/" if is_folder else "")
                if entry not in self._listed:
                    self._listed.add(entry)
                    # Start with a newline: a line that a full disk cut short must not spoil this one.
                    os.write(self._file, f"\n{json.dumps(entry)}".encode())
                    os.fdatasync(self._file)
                return

    def existing(self) -> list[str]:
        """The listed paths that exist, and what other programs wrote into folders that the run made, sorted."""
        listed = {entry for entry in read_list(self._folder) or () if os.path.lexists(self._folder / entry)}
        return sorted(listed | (self._in_folders(listed) - self._others))

    def _in_folders(self, listed: set[str]) -> set[str]:
        folders = [entry.rstrip("/") for entry in listed if entry.endswith("/")]
        return set().union(*(_below(self._folder, name) for name in folders if not (self._folder / name).is_symlink()))

    def stop(self, tidy: bool = True) -> None:
        """Stop recording. `tidy` rewrites the list without files that no longer exist."""
        _stop(self)
        os.close(self._file)
        if tidy:
            _write(self._folder, self.existing())


def read_list(folder: Path) -> list[str] | None:
    """The paths that the run in `folder` has listed; None if it has no list."""
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    listed = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # empty, or cut short by a full disk or a power failure
            continue
        # The list may be from another source: never delete anything outside the folder.
        if isinstance(entry, str) and entry and not entry.startswith("/") and ".." not in entry.split("/"):
            listed.append(entry)
    return listed


def old_files(folder: Path) -> list[str]:
    """The existing paths in `folder` that a run of a version without a list may have written.

    Raises:
        InputError: one of its folders is a link, and what the run wrote there cannot be distinguished from other files.
    """
    listed = {path.name for pattern in _OLD_FILES for path in folder.glob(pattern) if not os.path.isdir(path)}
    for name in _OLD_FOLDERS:
        place = folder / name
        if place.is_symlink() and os.path.isdir(place) and any(place.iterdir()):
            raise InputError(
                f"'{place}' is a link, and the run in '{folder}' is of a version that did not list its "
                "files. Delete those below the link yourself, or give another output=..."
            )
        if os.path.isdir(place) and not place.is_symlink():
            listed |= {f"{name}/"} | _below(folder, name)
    return sorted(listed)


def delete(folder: Path, listed: Sequence[str]) -> None:
    """Delete the listed files, through linked folders too, and the listed folders that are empty then.

    The list itself stays, and so do links that are not listed and the user's own files in folders that a run made.

    Raises:
        InputError: a file cannot be deleted.
    """
    for entry in sorted(set(listed) - {NAME}, key=lambda entry: (entry.endswith("/"), -entry.count("/"))):
        path = folder / entry
        try:
            if not entry.endswith("/"):
                if not os.path.isdir(path) or path.is_symlink():
                    path.unlink(missing_ok=True)
            elif not path.is_symlink():
                path.rmdir()
        except OSError as error:
            if error.errno in (*_MISSING, errno.ENOTEMPTY, errno.EEXIST):
                continue
            raise InputError(
                f"overwrite=true cannot delete '{path}' ({error.strerror}). Delete it yourself, or give another "
                "output=..."
            ) from None


def _below(folder: Path, name: str) -> set[str]:
    found = set()
    for place, folders, files in os.walk(folder / name):
        relative = os.path.relpath(place, folder)
        links = {entry for entry in folders if os.path.islink(os.path.join(place, entry))}
        found |= {os.path.join(relative, entry) for entry in (*files, *links)}
        found |= {os.path.join(relative, entry) + "/" for entry in folders if entry not in links}
    return found


def _write(folder: Path, listed: Iterable[str]) -> None:
    write_text(folder / NAME, "".join(f"{json.dumps(entry)}\n" for entry in sorted(listed)))


_active: FileRecorder | None = None
_hooked = False


def _start(recorder: FileRecorder) -> None:
    global _active, _hooked
    if not _hooked:
        sys.addaudithook(_announced)  # audit hooks cannot be removed
        _hooked = True
    _active = recorder


def _stop(recorder: FileRecorder) -> None:
    global _active
    if _active is recorder:
        _active = None


def _announced(event: str, arguments: tuple[Any, ...]) -> None:
    recorder = _active
    if recorder is None or event not in _CREATING:
        return
    path = arguments[_CREATING[event]]
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
        return
    if isinstance(path, int) or path is None:
        return
    path = os.fsdecode(path)
    if event != "os.mkdir":
        recorder.add(path, is_folder=event == "os.rename" and os.path.isdir(os.fsdecode(arguments[0])))
    elif not os.path.lexists(path):
        recorder.add(path, is_folder=True)
