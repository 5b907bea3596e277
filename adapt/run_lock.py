"""A lock on a run's folder: one process works in it at a time.

The kernel holds the lock (`flock` on a file that stays open) and frees it when the process ends, even after `kill -9`.
"""

import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path

from adapt.errors import InputError

log = logging.getLogger(__name__)

NAME = ".lock"
_ATTEMPTS = 5  # another process may hold the lock for an instant, only to check it
_open_files: set[int] = set()


class RunLock:
    """Holds the lock of a folder until `release`.

    Raises:
        InputError: another process holds it.
    """

    def __init__(self, folder: Path, command: str = "") -> None:
        self._path = folder / NAME
        self._file = _acquire(self._path)
        if self._file is not None:
            _open_files.add(self._file)
            holder = {"process": os.getpid(), "host": socket.gethostname(), "command": command}
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(holder).encode(), 0)

    def release(self) -> None:
        """Remove the lock file and free the lock."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            _open_files.discard(self._file)
            self._file = None


def check_unlocked(folder: Path) -> None:
    """Raise InputError if another process works in the folder. Creates nothing."""
    try:
        file = os.open(folder / NAME, os.O_RDONLY)
    except OSError:
        return
    try:
        own = any(os.path.samestat(os.fstat(file), os.fstat(held)) for held in _open_files)
        if not own and not _try(file, fcntl.LOCK_SH):
            raise _in_use(folder, file)
    finally:
        os.close(file)


def _acquire(path: Path) -> int | None:
    for attempt in range(_ATTEMPTS):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _try(file, fcntl.LOCK_EX)
        except OSError as error:
            os.close(file)
            log.warning("'%s' cannot be locked (%s). Do not start a second run there.", path.parent, error.strerror)
            return None
        if locked and _is_at(file, path):
            return file
        refusal = _in_use(path.parent, file)
        os.close(file)
        if not locked and attempt + 1 == _ATTEMPTS:
            raise refusal
        time.sleep(0.05)
    raise InputError(f"'{path.parent}' could not be locked: other processes keep locking it. Try again.")


def _try(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    # The holder removes the file when it is done: the file that was opened may no longer be the one at the path.
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _in_use(folder: Path, file: int) -> InputError:
    try:
        holder = json.loads(os.pread(file, 10_000, 0))
        name = f"process {holder['process']} on {holder['host']}"
        name += f" ({holder['command']})" if holder["command"] else ""
    except (ValueError, KeyError, TypeError):
        name = "another process"
    return InputError(f"'{folder}' is in use by {name}. Wait until it ends, or give another output=...")


def _close_in_child() -> None:
    # A forked process, such as a data loader's worker, shares the open file and would keep the lock after its parent.
    for file in _open_files:
        os.close(file)
    _open_files.clear()


os.register_at_fork(after_in_child=_close_in_child)
