"""A correction store: an SQLite file with a memory, and the text, author and time of each correction.

Once `add` has returned a number, its correction survives a crash of the process or the machine (write-ahead log, synced
at each commit), and no correction is ever stored in part. Several processes can read and add at the same time. A store
belongs to one model, identified by its fingerprint. Numbers are never reused.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from interventions.corrections.checks import check_fit
from interventions.corrections.collection import Entry
from interventions.corrections.contents import Contents, Correction, Facts, read_export, write_export
from interventions.corrections.database import (
    connected,
    empty_log,
    has_tables,
    opened,
    purge,
    reading,
    writing,
)
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Memory
from interventions.corrections.packing import damage, layer_from, memory_tensors, pack, pack_entry
from interventions.corrections.rows import (
    FORMAT,
    RECORD,
    RESTORE,
    Record,
    memory_header,
    read_entries,
    read_header,
    read_memory,
    read_record,
    write_correction,
    write_memory,
)
from interventions.files import FileError, atomic

# Adding to a store of an older format upgrades the store, because older versions could not read the new correction.
_UPGRADE = f"UPDATE memory SET format = {FORMAT} WHERE format < {FORMAT}"


class CorrectionStore:
    """The corrections of one model, in an SQLite file.

    Raises:
        FileError: If the file does not exist, is not a correction store, has a newer format, or belongs to another
            model.
    """

    def __init__(self, path: Path | str, fingerprint: str) -> None:
        self.path, self.fingerprint = Path(path), fingerprint
        if not self.exists(path):
            raise FileError(f"There are no corrections at '{self.path}'.")
        with self._open() as database:
            row = database.execute("SELECT format, fingerprint FROM memory").fetchone()
        if row is None or not isinstance(row[0], int) or not 1 <= row[0] <= FORMAT:
            content = "no memory" if row is None else f"format {str(row[0])[:40]}"
            raise FileError(
                f"'{self.path}' has {content}, and this version reads formats 1 to {FORMAT}. Update innertune."
            )
        if row[1] != fingerprint:
            raise FileError(
                f"The corrections in '{self.path}' belong to another model, with fingerprint {str(row[1])[:12]}.... "
                f"This model has fingerprint {fingerprint[:12]}..., and cannot use them."
            )

    @staticmethod
    def exists(path: Path | str) -> bool:
        """Return whether there is a file at `path`, not counting the empty one that an interrupted `create` leaves."""
        path = Path(path)
        if not os.path.isfile(path) or not path.stat().st_size:
            return False
        try:
            with connected(path) as database:
                return has_tables(database)
        except sqlite3.DatabaseError:  # not an SQLite file; opening the store reports it
            return True

    @classmethod
    def create(cls, path: Path | str, fingerprint: str, memory: Memory, **facts: Any) -> "CorrectionStore":
        """Create a store, or open the one that another process has just created.

        Args:
            path: the file.
            fingerprint: fingerprint of the model.
            memory: an empty memory.
            facts: further JSON data to store.

        Raises:
            FileError: If the file cannot be written.
        """
        path = Path(path)
        with opened(path, create=True) as database, writing(database):
            write_memory(database, fingerprint, memory, facts)
        return cls(path, fingerprint)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that `create` stored."""
        facts = self._header["facts"]
        if not isinstance(facts, dict):
            raise FileError(f"The memory in '{self.path}' is damaged (it has no facts). {RESTORE}")
        return cast(dict[str, Any], facts)

    @property
    def layer(self) -> AffineLayer:
        """The layer that holds the corrections."""
        header = self._header
        with damage(f"The memory in '{self.path}'", RESTORE):
            return layer_from(header)

    @torch.inference_mode(False)
    def memory(self, gated: bool = True) -> Memory:
        """Return the memory with all corrections in the store; `gated` as in `Memory.new`."""
        with self._open() as database:
            memory = read_memory(database, self.path, gated)
        self.refresh(memory)
        with damage(f"The memory in '{self.path}'", RESTORE):
            check_fit(memory)
        return memory

    @torch.inference_mode(False)
    def refresh(self, memory: Memory) -> bool:
        """Update a memory to the current contents of the store. Returns whether anything changed."""
        with self._open() as database:
            query = "SELECT number FROM corrections WHERE tensors NOT NULL"
            stored = {int(number) for (number,) in database.execute(query)}
            new = sorted(stored - memory.entries.keys())
            query = "SELECT tensors FROM corrections WHERE number = ?"
            blobs = [(number, database.execute(query, (number,)).fetchone()) for number in new]
        gone = sorted(memory.entries.keys() - stored)
        for number in gone:
            memory.remove(number)
        # A row is None if another process removed it in the meantime.
        present = ((number, row[0]) for number, row in blobs if row is not None)
        unpacked = read_entries(present, memory.protected, self.path)
        for number, entry in unpacked:
            memory.add(number, entry)
        return bool(new or gone)

    def add(self, entry: Entry | None, author: str, **facts: Any) -> int:
        """Store a correction, and return its number once it is on disk.

        Args:
            entry: the correction; None if it edits no activations.
            author: who made it.
            facts: further JSON data.
        """
        correction = Correction(0, datetime.now(UTC).isoformat(timespec="seconds"), author, facts, entry)
        with self._open() as database, writing(database):
            database.execute(_UPGRADE)
            return write_correction(database, correction, None)

    def remove(self, number: int) -> Record:
        """Remove a correction, and return its record. Raises FileError if no correction has this number.

        A damaged correction can be removed too; its record is then empty.
        """
        query = f"{RECORD} WHERE number = ?"
        with self._open() as database:
            with writing(database):
                row = database.execute(query, (number,)).fetchone()
                if row is None:
                    raise self._unknown(database, number)
                database.execute("DELETE FROM corrections WHERE number = ?", (number,))
            empty_log(database)
        try:
            return read_record(row, self.path)
        except FileError:
            return Record(number, "", "", {}, 0)

    def forget(self, numbers: Iterable[int], facts: Facts | None = None, memory: Memory | None = None) -> None:
        """Remove corrections so that nothing of them is left in the file or its log.

        Args:
            numbers: the numbers of the corrections.
            facts: what replaces the facts that `create` stored; None: they stay.
            memory: what replaces the memory, with all remaining corrections; None: it stays.

        Raises:
            FileError: If another process holds the store.
        """
        with self._open() as database:
            with writing(database):
                database.executemany("DELETE FROM corrections WHERE number = ?", [(number,) for number in numbers])
                if facts is not None:
                    kept = read_memory(database, self.path)
                    database.execute("UPDATE memory SET header = ?", (memory_header(memory or kept, facts),))
                if memory is not None:
                    database.execute("UPDATE memory SET tensors = ?", (pack(memory_tensors(memory.protected)),))
                    rows = [(pack_entry(entry), number) for number, entry in memory.entries.items()]
                    database.executemany("UPDATE corrections SET tensors = ? WHERE number = ?", rows)
                    database.execute(_UPGRADE)
            purge(database, self.path)

    def records(self) -> list[Record]:
        """Return the records of all corrections, the oldest first. Raises FileError if one is damaged."""
        query = f"{RECORD} ORDER BY number"
        with self._open() as database:
            rows = database.execute(query).fetchall()
        return [read_record(row, self.path) for row in rows]

    def record(self, number: int) -> Record:
        """Return the record of a correction. Raises FileError if no correction has this number."""
        query = f"{RECORD} WHERE number = ?"
        with self._open() as database:
            row = database.execute(query, (number,)).fetchone()
            if row is None:
                raise self._unknown(database, number)
        return read_record(row, self.path)

    @torch.inference_mode(False)
    def contents(self) -> Contents:
        """Return everything in the store. Raises FileError if anything is damaged."""
        with self._open() as database, reading(database):
            memory = read_memory(database, self.path)
            query = f"{RECORD} ORDER BY number"
            records = [read_record(row, self.path) for row in database.execute(query)]
            rows = database.execute("SELECT number, tensors FROM corrections WHERE tensors NOT NULL").fetchall()
        entries = dict(read_entries(rows, memory.protected, self.path))
        corrections = [Correction(one.number, one.made, one.author, one.facts, entries.get(one.number))
                       for one in records]  # fmt: skip
        return Contents(self.fingerprint, memory, self.facts, tuple(corrections))

    def export(self, path: Path | str, strip: Callable[[Facts], Facts] | None = None) -> None:
        """Write the whole store to a safetensors file, atomically.

        Args:
            path: the file to write.
            strip: leave out the authors, and all facts but those that this function returns; None: write everything.
        """
        contents = self.contents()
        write_export(path, contents if strip is None else contents.without_names(strip))

    @classmethod
    def load(cls, path: Path | str, exported: Path | str, fingerprint: str) -> tuple["CorrectionStore", list[int]]:
        """Import a file that `export` wrote: read it with `read_export`, and `insert` it."""
        return cls.insert(path, read_export(exported, fingerprint))

    @classmethod
    def insert(cls, path: Path | str, contents: Contents) -> tuple["CorrectionStore", list[int]]:
        """Add contents, completely or not at all, to the store at `path`, which is created if it does not exist.

        An empty store keeps the numbers; otherwise corrections get new numbers. Corrections that the store already has
        are skipped.

        Args:
            path: the file of the store.
            contents: the contents, for the same model.

        Returns:
            The store, and the numbers of the corrections that were added.

        Raises:
            FileError: If the store belongs to another model, or has another layer or other protected inputs.
        """
        path, fingerprint = Path(path), contents.fingerprint
        store = cls(path, fingerprint) if cls.exists(path) else None
        with opened(path, create=True) as database, writing(database):
            write_memory(database, fingerprint, contents.memory, contents.facts)
            present = set[tuple[str, str, str]]()
            if store is not None:
                if not _same_memory(contents.memory, read_memory(database, path)):
                    raise FileError(
                        f"'{path}' has corrections of the same model, but for another layer or with other protected "
                        "inputs. Import into a new store."
                    )
                present = {one.identity for one in store.contents().corrections}
            database.execute(_UPGRADE)
            empty = database.execute("SELECT 1 FROM corrections LIMIT 1").fetchone() is None
            new = [one for one in contents.corrections if one.identity not in present]
            numbers = [write_correction(database, one, one.number if empty else None) for one in new]
        return cls(path, fingerprint), numbers

    def copy(
        self, path: Path | str, fingerprint: str, folded: Tensor, strip: Callable[[Facts], Facts] | None = None
    ) -> None:
        """Write a copy of the store for another model: the one with the ridge map folded into its weights.

        Nothing is copied that was removed.

        Args:
            path: the file to write.
            fingerprint: fingerprint of the other model.
            folded: `(units, width + 1)`, the ridge map; see `Memory`.
            strip: see `export`.
        """
        contents = self.contents()
        contents = contents if strip is None else contents.without_names(strip)
        with self._open() as database:  # so that no number is used again
            last = (database.execute("SELECT max(seq) FROM sqlite_sequence").fetchone() or (0,))[0] or 0
        memory = Memory(contents.memory.protected, contents.memory.corrections, folded=folded)
        with atomic(path, private=True) as part, opened(part, create=True) as database:
            with writing(database):
                write_memory(database, fingerprint, memory, contents.facts)
                for one in contents.corrections:
                    write_correction(database, one, one.number)
                database.execute("UPDATE sqlite_sequence SET seq = max(seq, ?)", (last,))
            database.execute("PRAGMA journal_mode = DELETE")  # move everything into the one file

    @property
    def _header(self) -> dict[str, Any]:
        with self._open() as database:
            return read_header(database, self.path)

    def _unknown(self, database: sqlite3.Connection, number: int) -> FileError:
        rows = database.execute("SELECT number FROM corrections ORDER BY number LIMIT 1000")
        return FileError(
            f"There is no correction {number}. There are: {', '.join(str(one) for (one,) in rows) or 'none'}."
        )

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return opened(self.path)


def _same_memory(one: Memory, other: Memory) -> bool:
    mine, theirs = memory_tensors(one.protected), memory_tensors(other.protected)
    return (
        one.protected.layer == other.protected.layer
        and one.ridge_strength == other.ridge_strength
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[name], theirs[name]) for name in mine)
    )
