"""The rows of a correction store: read and check them, and write them.

Functions that read raise FileError, which names the file and what is damaged in it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interventions.corrections.collection import Entry
from interventions.corrections.contents import Correction, Facts, checked_number, checked_texts
from interventions.corrections.database import TABLES, has_tables
from interventions.corrections.memory import Memory
from interventions.corrections.packing import (
    damage,
    entry_from,
    from_json,
    layer_from,
    memory_bytes,
    memory_from,
    memory_tensors,
    memory_to_json,
    pack,
    pack_entry,
    to_json,
    unpack,
)
from interventions.corrections.protect import Protected
from interventions.files import FileError

FORMAT = 4  # formats 1 to 3 can be read (packing.py)
RESTORE = "Restore the file from a backup, or start another store."
# The columns of a record. The size is read without the tensors.
RECORD = "SELECT number, made, author, facts, ifnull(length(tensors), 0) FROM corrections"
_LARGEST = 2 << 30  # bytes of all unpacked corrections


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


def read_record(row: tuple[Any, ...], path: Path) -> Record:
    """Return the record in a row of `RECORD`."""
    number, made, author, facts, size = row
    with damage(f"Correction {number} in '{path}'", _advice(number)):
        made, author = checked_texts(made, author)
        return Record(checked_number(number), made, author, from_json(facts), size)


def read_header(database: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """Return the JSON data about the memory."""
    row = database.execute("SELECT header FROM memory").fetchone()
    with damage(f"The memory in '{path}'", RESTORE):
        return from_json(row[0])


def read_memory(database: sqlite3.Connection, path: Path, gated: bool = True) -> Memory:
    """Return the memory without its corrections; `gated` as in `Memory.new`."""
    row = database.execute("SELECT header, tensors, folded FROM memory").fetchone()
    with damage(f"The memory in '{path}'", RESTORE):
        header, tensors, folded = row
        header = from_json(header)
        largest = memory_bytes(layer_from(header))
        in_weights = unpack(folded, largest)["folded"] if folded is not None else None
        return memory_from(header, unpack(tensors, largest), in_weights, gated)


def read_entries(blobs: Iterable[tuple[int, bytes]], protected: Protected, path: Path) -> Iterator[tuple[int, Entry]]:
    """Yield the number and the edit of each correction, given its number and packed tensors."""
    total = 0
    for number, blob in blobs:
        with damage(f"Correction {number} in '{path}'", _advice(number)):
            entry = entry_from(unpack(blob), protected)
        total += entry.inputs.nbytes + entry.values.nbytes + entry.targets.nbytes
        if total > _LARGEST:
            raise FileError(f"The corrections in '{path}' unpack to more than {_LARGEST >> 20} MiB.")
        yield number, entry


def memory_header(memory: Memory, facts: Facts) -> str:
    """Return the JSON text about a memory that the store has."""
    return to_json({**memory_to_json(memory), "facts": facts})


def write_memory(database: sqlite3.Connection, fingerprint: str, memory: Memory, facts: Facts) -> None:
    """Create the tables with a memory, if another process has not yet."""
    if has_tables(database):
        return
    for statement in TABLES.split(";"):
        database.execute(statement)
    folded = None if memory.folded is None else pack({"folded": memory.folded})
    row = (FORMAT, fingerprint, memory_header(memory, facts), pack(memory_tensors(memory.protected)), folded)
    database.execute("INSERT INTO memory VALUES (1, ?, ?, ?, ?, ?)", row)


def write_correction(database: sqlite3.Connection, correction: Correction, number: int | None) -> int:
    """Add a correction under a number, or under an unused one, and return the number."""
    blob = None if correction.entry is None else pack_entry(correction.entry)
    row = (number, correction.made, correction.author, to_json(correction.facts), blob)
    query = "INSERT INTO corrections (number, made, author, facts, tensors) VALUES (?, ?, ?, ?, ?)"
    added = database.execute(query, row).lastrowid
    assert added is not None  # the statement was an INSERT
    return added


def _advice(number: object) -> str:
    return f"Remove it (undo {number}), or restore the file from a backup."
