"""Connect to the SQLite file of a correction store. The file survives crashes, and processes can share it."""

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from interventions.files import FileError

_TIMEOUT = 60.0  # seconds to wait while another process writes


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
    # In a read-only folder, SQLite only opens a file that is declared immutable. It would then miss the contents of a
    # write-ahead log.
    read_only = not create and not os.access(path.parent, os.W_OK) and not _has_log(path)
    mode = "mode=ro&immutable=1" if read_only else "mode=rwc" if create else "mode=rw"
    # Transactions are explicit, and a connection is closed after each use.
    uri = f"{path.absolute().as_uri()}?{mode}"
    database = sqlite3.connect(uri, timeout=_TIMEOUT, isolation_level=None, uri=True)
    try:
        if not read_only:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
        yield database
    finally:
        database.close()


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


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return os.path.isfile(log) and log.stat().st_size > 0
