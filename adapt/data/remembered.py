"""What is known about audio files, remembered between runs: their lengths and their checksums.

It is a table in `remembered.sqlite` below $INNERTUNE_CACHE or ~/.cache/innertune. It may be deleted at any time. An
entry counts only while the file is the same: its size, its number in the file system, and the times at which its
content and its attributes were last changed. A program can set the first of these times back, but not the second.
"""

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

log = logging.getLogger(__name__)

SETTLED = 2.0  # seconds: a file that was changed later than this before now may change again with the same times
MOST = 4_000_000  # entries; one takes about 80 bytes
_AT_ONCE = 500  # entries of a query
_VERSION = 1
Entry = tuple[bytes, bytes]  # (which file it was, what is known about it)


def memory_file() -> Path:
    """Return the file of the table, below $INNERTUNE_CACHE or ~/.cache/innertune."""
    base = os.environ.get("INNERTUNE_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "innertune")
    return Path(base).absolute() / "remembered.sqlite"


def key_of(kind: str, path: Path | str, *more: object) -> bytes:
    """Return the key of what is known about a file, such as key_of("header", path)."""
    whole = str(path)
    whole = whole if whole.startswith("/") else os.path.abspath(whole)
    text = "\0".join((kind, whole, *map(repr, more)))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def identity(state: os.stat_result) -> bytes:
    """Return what changes with any change of a file."""
    return b"%d %d %d %d" % (state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns)


def settled(state: os.stat_result) -> bool:
    """Return whether a file was last changed so long ago that a further change would show in its times."""
    return time.time() - max(state.st_mtime, state.st_ctime) > SETTLED


def find(keys: Sequence[bytes]) -> dict[bytes, Entry]:
    """Return the entries of these keys; none if the table cannot be read."""
    found: dict[bytes, Entry] = {}
    try:
        if not os.path.isfile(memory_file()):
            return found
        with closing(_open()) as table:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = table.execute(f"SELECT key, file, known FROM entries WHERE key IN ({marks})", part)
                found.update((key, (file, known)) for key, file, known in rows)
    except (OSError, sqlite3.Error) as error:
        log.debug("What is remembered about audio files cannot be read: %s", error)
        return {}
    return found


def keep(entries: Mapping[bytes, Entry]) -> None:
    """Add entries. Nothing is kept if the table cannot be written, because another process writes or a disk is full."""
    if not entries:
        return
    today = int(time.time() // 86_400)
    try:
        memory_file().parent.mkdir(parents=True, exist_ok=True)
        with closing(_open()) as table, table:
            table.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", _rows(entries, today))
            (count,) = table.execute("SELECT count(*) FROM entries").fetchone()
            if count > MOST:  # the oldest go, and some more, so that this happens rarely
                oldest = "SELECT key FROM entries ORDER BY day LIMIT ?"
                table.execute(f"DELETE FROM entries WHERE key IN ({oldest})", (count - MOST + MOST // 4,))
    except (OSError, sqlite3.Error) as error:
        log.debug("What is known about audio files cannot be remembered: %s", error)


def _rows(entries: Mapping[bytes, Entry], day: int) -> Iterable[tuple[bytes, bytes, bytes, int]]:
    return ((key, file, known, day) for key, (file, known) in entries.items())


def _open() -> sqlite3.Connection:
    table = sqlite3.connect(memory_file(), timeout=5.0)
    try:
        (version,) = table.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            with table:
                table.execute("DROP TABLE IF EXISTS entries")
                columns = "key BLOB PRIMARY KEY, file BLOB, known BLOB, day INTEGER"
                table.execute(f"CREATE TABLE IF NOT EXISTS entries ({columns}) WITHOUT ROWID")
                table.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        table.close()
        raise
    return table
