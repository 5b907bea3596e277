"""A correction store: an SQLite file with a memory, and the text, author and time of each correction.

Once `add` has returned a number, its correction survives a crash of the process or the machine (write-ahead log, synced
at each commit), and no correction is ever stored in part. Several processes can read and add at the same time. A store
belongs to one model, identified by its fingerprint. Numbers are never reused.
"""

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interventions.corrections.collection import Entry
from interventions.corrections.database import connected, opened, reading, writing
from interventions.corrections.memory import Memory
from interventions.corrections.packing import (
    damage,
    entry_from,
    exported_entry,
    memory_from,
    memory_tensors,
    memory_to_json,
    pack,
    pack_entry,
    to_json,
    unpack,
)
from interventions.files import FileError, atomic, read_tensors, write_tensors

FORMAT = 4  # formats 1 to 3 can be read (packing.py)
_KIND = "corrections"
_TABLES = """
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
# Adding to a store of an older format upgrades the store, because older versions could not read the new correction.
_UPGRADE = f"UPDATE memory SET format = {FORMAT} WHERE format < {FORMAT}"


@dataclass(frozen=True)
class Record:
    """A correction as the store lists it.

    Args:
        number: number of the correction.
        made: when the correction was made (UTC, ISO 8601).
        author: who made it.
        facts: further JSON data.
        bytes: size of the correction's tensors in the file; 0 if it has none.
    """

    number: int
    made: str
    author: str
    facts: Mapping[str, Any]
    bytes: int


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
        if row is None or not 1 <= row[0] <= FORMAT:
            content = "no memory" if row is None else f"format {row[0]}"
            raise FileError(
                f"'{self.path}' has {content}, and this version reads formats 1 to {FORMAT}. Update innertune."
            )
        if row[1] != fingerprint:
            raise FileError(
                f"The corrections in '{self.path}' belong to another model, with fingerprint {row[1][:12]}.... This "
                f"model has fingerprint {fingerprint[:12]}..., and cannot use them."
            )

    @staticmethod
    def exists(path: Path | str) -> bool:
        """Return whether there is a file at `path`, not counting the empty one that an interrupted `create` leaves."""
        path = Path(path)
        if not os.path.isfile(path) or not path.stat().st_size:
            return False
        try:
            with connected(path) as database:
                return database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"'{path}' cannot be created ({error.strerror}). Choose another path.") from None
        header = to_json({**memory_to_json(memory), "facts": facts})
        tensors = pack(memory_tensors(memory.protected))
        folded = None if memory.folded is None else pack({"folded": memory.folded})
        with opened(path, create=True) as database, writing(database):
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'memory'").fetchone() is None:
                for statement in _TABLES.split(";"):
                    database.execute(statement)
                row = (FORMAT, fingerprint, header, tensors, folded)
                database.execute("INSERT INTO memory VALUES (1, ?, ?, ?, ?, ?)", row)
        return cls(path, fingerprint)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that `create` stored."""
        with self._open() as database:
            return json.loads(database.execute("SELECT header FROM memory").fetchone()[0])["facts"]

    @torch.inference_mode(False)
    def memory(self, gated: bool = True) -> Memory:
        """Return the memory with all corrections in the store; `gated` as in `Memory.new`."""
        with self._open() as database:
            header, tensors, folded = database.execute("SELECT header, tensors, folded FROM memory").fetchone()
        with damage(f"The memory in '{self.path}'", "Restore the file from a backup, or start another store."):
            in_weights = unpack(folded).get("folded") if folded else None
            memory = memory_from(json.loads(header), unpack(tensors), in_weights, gated)
        self.refresh(memory)
        return memory

    @torch.inference_mode(False)
    def refresh(self, memory: Memory) -> bool:
        """Update a memory to the current contents of the store. Returns whether anything changed."""
        with self._open() as database:
            query = "SELECT number FROM corrections WHERE tensors NOT NULL"
            stored = {int(number) for (number,) in database.execute(query)}
            new = sorted(stored - memory.entries.keys())
            query = "SELECT tensors FROM corrections WHERE number = ?"
            rows = [database.execute(query, (number,)).fetchone() for number in new]
        gone = sorted(memory.entries.keys() - stored)
        for number in gone:
            memory.remove(number)
        for number, row in zip(new, rows, strict=True):
            if row is None:  # another process removed it in the meantime
                continue
            advice = f"Remove it (undo {number}), or restore the file from a backup."
            with damage(f"Correction {number} in '{self.path}'", advice):
                entry = entry_from(unpack(row[0]))
            memory.add(number, entry)
        return bool(new or gone)

    def add(self, entry: Entry | None, author: str, **facts: Any) -> int:
        """Store a correction, and return its number once it is on disk.

        Args:
            entry: the correction; None if it edits no activations.
            author: who made it.
            facts: further JSON data.
        """
        blob = None if entry is None else pack_entry(entry)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        row = (made, author, to_json(facts), blob)
        query = "INSERT INTO corrections (made, author, facts, tensors) VALUES (?, ?, ?, ?)"
        with self._open() as database, writing(database):
            database.execute(_UPGRADE)
            return _inserted(database.execute(query, row))

    def remove(self, number: int) -> Record:
        """Remove a correction, and return its record. Raises FileError if no correction has this number."""
        record = self.record(number)
        with self._open() as database, writing(database):
            if not database.execute("DELETE FROM corrections WHERE number = ?", (number,)).rowcount:
                raise self._unknown(number)
        return record

    def records(self) -> list[Record]:
        """Return the records of all corrections, the oldest first."""
        query = "SELECT number, made, author, facts, ifnull(length(tensors), 0) FROM corrections ORDER BY number"
        with self._open() as database:
            rows = database.execute(query).fetchall()
        return [Record(number, made, author, json.loads(facts), size) for number, made, author, facts, size in rows]

    def record(self, number: int) -> Record:
        """Return the record of a correction. Raises FileError if no correction has this number."""
        for record in self.records():
            if record.number == number:
                return record
        raise self._unknown(number)

    def export(self, path: Path | str) -> None:
        """Write the whole store to a safetensors file, atomically."""
        with self._open() as database, reading(database):
            header, tensors, folded = database.execute("SELECT header, tensors, folded FROM memory").fetchone()
            query = "SELECT number, made, author, facts, tensors FROM corrections ORDER BY number"
            rows = database.execute(query).fetchall()
        entries: list[dict[str, Any]] = []
        advice = "Remove the damaged correction (commands that use it report its number), or restore the file."
        with damage(f"'{self.path}'", advice):
            exported = unpack(tensors) | (unpack(folded) if folded else {})
            for number, made, author, facts, blob in rows:
                entries.append({"number": number, "made": made, "author": author, "facts": json.loads(facts)})
                if blob is not None:
                    exported |= {f"{number}.{name}": tensor for name, tensor in unpack(blob).items()}
        content = {"fingerprint": self.fingerprint, "memory": json.loads(header), "corrections": entries}
        write_tensors(path, _KIND, content, exported)

    @classmethod
    def load(cls, path: Path | str, exported: Path | str, fingerprint: str) -> tuple["CorrectionStore", list[int]]:
        """Import an export, completely or not at all, into the store at `path`, which is created if it does not exist.

        An empty store keeps the numbers of the export; otherwise corrections get new numbers. Corrections that the
        store already has, with the same text, author and time, are skipped.

        Args:
            path: the file of the store.
            exported: the file that `export` wrote.
            fingerprint: fingerprint of the model.

        Returns:
            The store, and the numbers of the corrections that were imported.

        Raises:
            FileError: If the export is damaged or belongs to another model, or the store has another layer or other
                protected inputs.
        """
        content, tensors = read_tensors(exported, _KIND)
        try:
            given, header, entries = content["fingerprint"], content["memory"], content["corrections"]
            facts = dict(header["facts"])
            memory = memory_from(header, tensors, tensors.get("folded"))
            rows = [_row(entry, tensors) for entry in entries]
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"'{exported}' does not describe corrections: {error}") from None
        if given != fingerprint:
            raise FileError(
                f"The corrections in '{exported}' belong to another model, with fingerprint {str(given)[:12]}.... This "
                f"model has fingerprint {fingerprint[:12]}...."
            )
        store = cls.create(path, fingerprint, memory, **facts)
        with store._open() as database, writing(database):
            known, blob = database.execute("SELECT header, tensors FROM memory").fetchone()
            if not _same_memory(memory, memory_from(json.loads(known), unpack(blob), None)):
                raise FileError(
                    f"'{exported}' and '{store.path}' have corrections of the same model, but for another layer or "
                    "with other protected inputs. Import into a new store."
                )
            database.execute(_UPGRADE)
            present = set(database.execute("SELECT made, author, facts FROM corrections"))
            empty = not present
            numbers: list[int] = []
            query = "INSERT INTO corrections (number, made, author, facts, tensors) VALUES (?, ?, ?, ?, ?)"
            for entry, row in zip(entries, rows, strict=True):
                if row[:3] not in present:
                    numbers.append(_inserted(database.execute(query, (int(entry["number"]) if empty else None, *row))))
        return store, numbers

    def copy(self, path: Path | str, fingerprint: str, folded: Tensor) -> None:
        """Write a copy of the store for another model: the one with the ridge map folded into its weights.

        Args:
            path: the file to write.
            fingerprint: fingerprint of the other model.
            folded: `(units, width + 1)`, the ridge map; see `Memory`.
        """
        with atomic(path) as part, self._open() as database:
            other = sqlite3.connect(part, isolation_level=None)
            try:
                database.backup(other)
                row = (fingerprint, pack({"folded": folded}))
                other.execute("UPDATE memory SET fingerprint = ?, folded = ?", row)
                other.execute("PRAGMA journal_mode = DELETE")  # move everything into the one file
            finally:
                other.close()

    def _unknown(self, number: int) -> FileError:
        numbers = ", ".join(str(record.number) for record in self.records())
        return FileError(f"There is no correction {number}. There are: {numbers or 'none'}.")

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return opened(self.path)


def _inserted(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None  # the statement was an INSERT
    return cursor.lastrowid


def _row(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[str, str, str, bytes | None]:
    correction = exported_entry(entry["number"], tensors)
    blob = None if correction is None else pack_entry(correction)
    return str(entry["made"]), str(entry["author"]), to_json(entry["facts"]), blob


def _same_memory(one: Memory, other: Memory) -> bool:
    mine, theirs = memory_tensors(one.protected), memory_tensors(other.protected)
    return (
        one.protected.layer == other.protected.layer
        and one.ridge_strength == other.ridge_strength
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[name], theirs[name]) for name in mine)
    )
