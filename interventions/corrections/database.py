"""Connect to the SQLite file of a correction store. The file survives crashes, and processes can share it.

A store may come from someone else, so nothing in it is run or believed: its schema must be ours before anything else
is read (no views, triggers or virtual tables), and sizes and times are bounded. New files belong to their owner alone
(0600), because corrections hold what people said and where their recordings lie; SQLite gives its other files the same
mode.
"""

import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from interventions.files import FileError, private_folder

_TIMEOUT = 60.0  # seconds to wait while another process writes
_LONGEST = 60.0  # seconds that the statements of a connection may take, since damaged files can be endless
_LARGEST = 4 << 30  # bytes of a store
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1 << 30,  # bytes of a value
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
}
# In this order: what a file contains must not be believed before its schema is read.
_SAFE = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA secure_delete = ON",  # overwrite what is deleted
)
TABLES = """
CREATE TABLE memory (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    header TEXT NOT NULL,
    tensors BLOB NOT NULL,
    folded BLOB
);
CREATE TABLE corrections (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    made TEXT NOT NULL,
    author TEXT NOT NULL,
    facts TEXT NOT NULL,
    tensors BLOB
);
"""
_SCHEMA = {
    *(" ".join(statement.split()) for statement in TABLES.split(";") if statement.strip()),
    "CREATE TABLE sqlite_sequence(name,seq)",  # SQLite's own, for AUTOINCREMENT
}


@contextmanager
def opened(path: Path, create: bool = False) -> Generator[sqlite3.Connection, None, None]:
    """Yield a connection to a store. Raises FileError if it cannot be used, or is missing and `create` is False."""
    try:
        with connected(path, create) as database:
            yield database
    except sqlite3.DatabaseError as error:
        raise FileError(f"'{path}' cannot be used as a correction store ({error}).") from None


@contextmanager
def connected(path: Path, create: bool = False) -> Generator[sqlite3.Connection, None, None]:
    """Yield a connection, and let SQLite's own errors through."""
    if create:
        _create_private(path)
    if os.path.isfile(path) and path.stat().st_size > _LARGEST:
        raise sqlite3.DatabaseError(f"it has {path.stat().st_size >> 20} MiB; at most {_LARGEST >> 20} are read")
    # In a read-only folder, SQLite only opens a file that is declared immutable. It would then miss the contents of a
    # write-ahead log.
    read_only = not create and not os.access(path.parent, os.W_OK) and not _has_log(path)
    mode = "mode=ro&immutable=1" if read_only else "mode=rw"
    # Transactions are explicit, and a connection is closed after each use.
    uri = f"{path.absolute().as_uri()}?{mode}"
    database = sqlite3.connect(uri, timeout=_TIMEOUT, isolation_level=None, uri=True)
    try:
        _restrict(database)
        if not read_only:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
        yield database
    finally:
        database.close()


def has_tables(database: sqlite3.Connection) -> bool:
    """Return whether the store has its tables, unlike a file that an interrupted process began to create."""
    return database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0


@contextmanager
def writing(database: sqlite3.Connection) -> Generator[None, None, None]:
    """Commit a write transaction if the block succeeds, and roll it back otherwise."""
    database.execute("BEGIN IMMEDIATE")  # wait for other writers here, not in the middle of the block
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


@contextmanager
def reading(database: sqlite3.Connection) -> Generator[None, None, None]:
    """Let all queries in the block see the same state."""
    database.execute("BEGIN")
    try:
        yield
    finally:
        database.execute("ROLLBACK")


def purge(database: sqlite3.Connection, path: Path) -> None:
    """Write the file anew and empty its log, so that nothing of deleted rows is left in either.

    Raises:
        FileError: If another process holds the store.
    """
    database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 1)  # VACUUM attaches the new file
    try:
        database.execute("VACUUM")
    finally:
        database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    if not empty_log(database):
        raise FileError(
            f"The rows are deleted, but another process is using '{path}', so they may still be in its log "
            f"('{path.name}-wal'). End that process, and do this again."
        )
    for part in path.parent.glob(f".{path.name}.*.part"):  # of killed processes
        part.unlink(missing_ok=True)


def empty_log(database: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file and empty it. Returns False if another process prevents this."""
    return database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def _create_private(path: Path) -> None:
    if os.path.exists(path):
        return
    try:
        private_folder(path.parent)
        with suppress(FileExistsError):  # another process has just created it
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise FileError(f"'{path}' cannot be created ({error.strerror}). Choose another path.") from None


def _restrict(database: sqlite3.Connection) -> None:
    for limit, value in _LIMITS.items():
        database.setlimit(limit, value)
    end = time.monotonic() + _LONGEST
    database.set_progress_handler(lambda: time.monotonic() > end, 100_000)
    for statement in _SAFE:
        database.execute(statement)
    # An endless or foreign schema has more rows than ours.
    rows = database.execute(f"SELECT type, sql FROM sqlite_master LIMIT {len(_SCHEMA) + 1}").fetchall()
    found = {" ".join(str(sql).split()) for kind, sql in rows if kind == "table"}
    if rows and (found != _SCHEMA or len(rows) != len(_SCHEMA)):
        raise sqlite3.DatabaseError("its tables are not those of a correction store")


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return os.path.isfile(log) and log.stat().st_size > 0
