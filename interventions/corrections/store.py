"""Corrections on disk: an SQLite file that holds a memory, each correction with its text, its author and its time.

A correction that `add` has returned the number of is in the file whatever happens to the process or the machine
(write-ahead log, synced at each commit), and none is there by half. Several processes may read and add at once. A
store belongs to one model, by fingerprint. Numbers are never used twice.
"""

import json
import lzma
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interventions.corrections.gate import BackgroundStatistics
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Entry, Memory
from interventions.corrections.protect import Protected
from interventions.files import FileError, atomic, read_tensors, site_from_json, site_to_json, write_tensors

FORMAT = 3  # 1 and 2 are read, and have no gate; what they put to the ridge regression is the change itself
_XZ = b"\xfd7zXZ"  # what lzma's files begin with
_OLD_GRAIN = 256  # of formats 1 and 2
_KIND = "corrections"
_WAIT = 60.0  # seconds for another process's write
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
# A store of an older format that is added to is none any more: what reads that cannot read what comes in.
_NOW = f"UPDATE memory SET format = {FORMAT} WHERE format < {FORMAT}"
_PROTECTED = ("input_step", "value_step", "second", "projection", "offset", "sample")
_ENTRY = ("inputs", "values", "targets", "radii")
_GATE = ("gate.axes", "gate.centre", "gate.mean", "gate.deviation", "gate.rows")  # where the layer can have one


@dataclass(frozen=True)
class Record:
    """A correction as the store lists it: its number, when it was made (UTC, ISO 8601), by whom, and what is known.

    `bytes` is what its vectors take in the file; 0 where it has none.
    """

    number: int
    made: str
    author: str
    facts: Mapping[str, Any]
    bytes: int


class CorrectionStore:
    """The corrections of one model, in the file at `path`.

    Raises:
        FileError: the file is no such store, of a newer format, or of another model.
    """

    def __init__(self, path: Path | str, fingerprint: str) -> None:
        self.path, self.fingerprint = Path(path), fingerprint
        if not self.exists(path):
            raise FileError(f"There are no corrections at '{self.path}'.")
        with self._open() as file:
            row = file.execute("SELECT format, fingerprint FROM memory").fetchone()
        if row is None or row[0] not in (1, 2, FORMAT):
            found = "nothing" if row is None else f"format {row[0]}"
            raise FileError(
                f"'{self.path}' holds {found}, and this version reads formats 1 to {FORMAT}. Update innertune."
            )
        if row[1] != fingerprint:
            raise FileError(
                f"The corrections in '{self.path}' are another model's: of fingerprint {row[1][:12]}..., and this one "
                f"has {fingerprint[:12]}.... Their vectors would mean nothing here."
            )

    @staticmethod
    def exists(path: Path | str) -> bool:
        """Whether there is anything at `path`. A database without a table is nothing: what making one began with."""
        path = Path(path)
        if not path.is_file() or not path.stat().st_size:
            return False
        try:
            with _connected(path) as file:
                return file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
        except sqlite3.DatabaseError:  # it is something else, as whoever opens it is told
            return True

    @classmethod
    def create(cls, path: Path | str, fingerprint: str, memory: Memory, **facts: Any) -> "CorrectionStore":
        """A new store for a model; where another process has just made one, that one. `facts`, as JSON, are kept.

        Raises:
            FileError: it cannot be written there.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"'{path}' cannot be made ({error.strerror}). Give another: corrections=FILE.") from None
        header = json.dumps({**_described(memory), "facts": facts}, ensure_ascii=False)
        tensors = _packed(_tensors(memory.protected))
        folded = None if memory.folded is None else _packed({"folded": memory.folded})
        with _opened(path, make=True) as file, _writing(file):
            there = file.execute("SELECT 1 FROM sqlite_master WHERE name = 'memory'").fetchone()
            if there is None:
                for statement in _TABLES.split(";"):
                    file.execute(statement)
                row = (FORMAT, fingerprint, header, tensors, folded)
                file.execute("INSERT INTO memory VALUES (1, ?, ?, ?, ?, ?)", row)
        return cls(path, fingerprint)

    @property
    def facts(self) -> dict[str, Any]:
        """What `create` was told."""
        with self._open() as file:
            return json.loads(file.execute("SELECT header FROM memory").fetchone()[0])["facts"]

    @torch.inference_mode(False)
    def memory(self, gated: bool = True) -> Memory:
        """The memory with all of the store's corrections, as an intervention; `gated` as `Memory.new` has it."""
        with self._open() as file:
            header, tensors, folded = file.execute("SELECT header, tensors, folded FROM memory").fetchone()
        with _whole(f"What '{self.path}' says of its corrections", "Take the file from a copy, or begin another."):
            stands = _unpacked(folded).get("folded") if folded else None
            memory = _memory(json.loads(header), _unpacked(tensors), stands, gated)
        self.refresh(memory)
        return memory

    @torch.inference_mode(False)
    def refresh(self, memory: Memory) -> bool:
        """Bring a memory up to what the store holds now; whether that was anything new."""
        with self._open() as file:
            there = {number for (number,) in file.execute("SELECT number FROM corrections WHERE tensors NOT NULL")}
            new = sorted(there - memory.entries.keys())
            rows = [
                file.execute("SELECT tensors FROM corrections WHERE number = ?", (number,)).fetchone() for number in new
            ]
        gone = sorted(memory.entries.keys() - there)
        for number in gone:
            memory.remove(number)
        for number, row in zip(new, rows, strict=True):
            if row is not None:  # taken back meanwhile by another process
                with _whole(
                    f"Correction {number} in '{self.path}'", f"Take it back (undo {number}), or the file anew."
                ):
                    entry = _entry(_unpacked(row[0]))
                memory.add(number, entry)
        return bool(new or gone)

    def add(self, entry: Entry | None, author: str, **facts: Any) -> int:
        """Keep a correction, and return its number once it is on the disk. `entry` is None where it edits nothing.

        `facts` are what else is known of it, as JSON.
        """
        blob = None if entry is None else packed(entry)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        row = (made, author, json.dumps(facts, ensure_ascii=False), blob)
        with self._open() as file, _writing(file):
            file.execute(_NOW)
            added = file.execute("INSERT INTO corrections (made, author, facts, tensors) VALUES (?, ?, ?, ?)", row)
            return int(added.lastrowid)

    def remove(self, number: int) -> Record:
        """Take a correction back, and return what it was. Raises FileError where there is none of that number."""
        record = self.record(number)
        with self._open() as file, _writing(file):
            if not file.execute("DELETE FROM corrections WHERE number = ?", (number,)).rowcount:
                raise self._none(number)
        return record

    def records(self) -> list[Record]:
        """All corrections, the oldest first."""
        with self._open() as file:
            rows = file.execute(
                "SELECT number, made, author, facts, ifnull(length(tensors), 0) FROM corrections ORDER BY number"
            ).fetchall()
        return [Record(number, made, author, json.loads(facts), size) for number, made, author, facts, size in rows]

    def record(self, number: int) -> Record:
        """One correction. Raises FileError where there is none of that number."""
        for record in self.records():
            if record.number == number:
                return record
        raise self._none(number)

    def export(self, path: Path | str) -> None:
        """Write all of it to one safetensors file, whole or not at all."""
        with self._open() as file, _reading(file):
            header, tensors, folded = file.execute("SELECT header, tensors, folded FROM memory").fetchone()
            rows = file.execute(
                "SELECT number, made, author, facts, tensors FROM corrections ORDER BY number"
            ).fetchall()
        entries = []
        with _whole(f"'{self.path}'", "Take back what is (each command that uses it names it), or the file anew."):
            found = _unpacked(tensors) | (_unpacked(folded) if folded else {})
            for number, made, author, facts, blob in rows:
                entries.append({"number": number, "made": made, "author": author, "facts": json.loads(facts)})
                if blob is not None:
                    found |= {f"{number}.{name}": tensor for name, tensor in _unpacked(blob).items()}
        said = {"fingerprint": self.fingerprint, "memory": json.loads(header), "corrections": entries}
        write_tensors(path, _KIND, said, found)

    @classmethod
    def load(cls, path: Path | str, exported: Path | str, fingerprint: str) -> tuple["CorrectionStore", list[int]]:
        """Put what `export` wrote into the store at `path`, which is made where there is none; all of it or nothing.

        Into an empty store they come with their numbers, else behind the others, with new ones, which are returned.
        What is there already, with its text, author and time, is left out.

        Raises:
            FileError: the file is damaged, or of another model; or the store keeps its corrections at another layer or
                with other protected keys, among which these would mean nothing.
        """
        said, tensors = read_tensors(exported, _KIND)
        try:
            given, header, rows = said["fingerprint"], said["memory"], said["corrections"]
            facts = dict(header["facts"])
            memory = _memory(header, tensors, tensors.get("folded"))
            own = _tensors(memory.protected)
            packed = [_exported(row, tensors) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"'{exported}' does not describe corrections: {error}") from None
        if given != fingerprint:
            raise FileError(
                f"The corrections in '{exported}' are another model's: of fingerprint {str(given)[:12]}..., and this "
                f"one has {fingerprint[:12]}...."
            )
        store = cls.create(path, fingerprint, memory, **facts)
        with store._open() as file, _writing(file):
            known, blob = file.execute("SELECT header, tensors FROM memory").fetchone()
            known = json.loads(known)
            there = _tensors(_memory(known, _unpacked(blob), None).protected)
            alike = there.keys() == own.keys() and all(torch.equal(there[name], own[name]) for name in own)
            if not alike or any(known[key] != header[key] for key in ("layer", "strength")):
                raise FileError(
                    f"'{exported}' and '{store.path}' hold corrections of one model, but with other protected data, or "
                    "at another layer. Import into a new store (corrections=PATH)."
                )
            file.execute(_NOW)
            empty = file.execute("SELECT count(*) FROM corrections").fetchone()[0] == 0
            numbers = []
            here = set(file.execute("SELECT made, author, facts FROM corrections"))
            for row, (made, author, facts, tensor) in zip(rows, packed, strict=True):
                if (made, author, facts) in here:
                    continue
                added = file.execute(
                    "INSERT INTO corrections (number, made, author, facts, tensors) VALUES (?, ?, ?, ?, ?)",
                    (int(row["number"]) if empty else None, made, author, facts, tensor),
                )
                numbers.append(int(added.lastrowid))
        return store, numbers

    def copy(self, path: Path | str, fingerprint: str, folded: Tensor) -> None:
        """Write a copy, for the model in whose weights the ridge map of all stands: `folded` `(units, width + 1)`."""
        with atomic(path) as part, self._open() as file:
            other = sqlite3.connect(part, isolation_level=None)
            try:
                file.backup(other)
                other.execute(
                    "UPDATE memory SET fingerprint = ?, folded = ?", (fingerprint, _packed({"folded": folded}))
                )
                other.execute("PRAGMA journal_mode = DELETE")  # all of it in the one file that is moved
            finally:
                other.close()

    def _none(self, number: int) -> FileError:
        there = ", ".join(str(record.number) for record in self.records())
        return FileError(f"There is no correction {number}. There are: {there or 'none'}.")

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return _opened(self.path)


@contextmanager
def _opened(path: Path, make: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection to a store, made where there is none only if that is said. Raises FileError."""
    try:
        with _connected(path, make) as file:
            yield file
    except sqlite3.DatabaseError as error:
        raise FileError(f"'{path}' cannot be used as a store of corrections ({error}).") from None


@contextmanager
def _connected(path: Path, make: bool = False) -> Iterator[sqlite3.Connection]:
    # Where nothing can be written beside it, SQLite reads a file only if told that nobody writes it: then no log is
    # there to be read with it. Writing is refused then.
    still = not make and not os.access(path.parent, os.W_OK) and not _log(path)
    how = "mode=ro&immutable=1" if still else "mode=rwc" if make else "mode=rw"
    # Transactions are begun and ended by us, and a connection lives no longer than what it is for.
    file = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", timeout=_WAIT, isolation_level=None, uri=True)
    try:
        if not still:
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = FULL")
        yield file
    finally:
        file.close()


def _log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.is_file() and log.stat().st_size > 0


@contextmanager
def _writing(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN IMMEDIATE")  # waits for other writers here, not in the middle
    try:
        yield
    except BaseException:
        file.execute("ROLLBACK")
        raise
    file.execute("COMMIT")


@contextmanager
def _reading(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN")  # several queries see one state
    try:
        yield
    finally:
        file.execute("ROLLBACK")


@contextmanager
def _whole(what: str, do: str) -> Iterator[None]:
    """Within it, what is read from a store is not what was written. Raises FileError."""
    from safetensors import SafetensorError

    try:
        yield
    except (zlib.error, lzma.LZMAError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FileError(f"{what} is damaged ({error}). {do}") from None


def _described(memory: Memory) -> dict[str, Any]:
    layer = asdict(memory.protected.layer) | {"site": site_to_json(memory.protected.layer.site)}
    return {"layer": layer, "strength": memory.ridge_strength, "grain": memory.protected.grain}


def _tensors(protected: Protected) -> dict[str, Tensor]:
    found = {name: getattr(protected, name) for name in _PROTECTED}
    usual = protected.background
    if usual is None:
        return found
    return found | {name: getattr(usual, name.removeprefix("gate.")) for name in _GATE}


def _memory(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], folded: Tensor | None, gated: bool = True
) -> Memory:
    layer = AffineLayer(**header["layer"] | {"site": site_from_json(header["layer"]["site"])})
    usual = BackgroundStatistics(*(tensors[name] for name in _GATE)) if _GATE[0] in tensors else None
    grain = header.get("grain", _OLD_GRAIN)
    protected = Protected(layer, *(tensors[name] for name in _PROTECTED), usual, grain)
    return Memory.new(protected, header["strength"], folded, gated)


def packed(entry: Entry) -> bytes:
    """A correction's vectors as the store has them: safetensors, compressed (in format 1 and 2 by zlib)."""
    return lzma.compress(_bytes({name: getattr(entry, name) for name in _ENTRY}))


def _entry(tensors: Mapping[str, Tensor]) -> Entry:
    return Entry(**{"targets": tensors["values"].clone(), **tensors})


def _exported(row: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[str, str, str, bytes | None]:
    own = {name: tensors[f"{row['number']}.{name}"] for name in _ENTRY if f"{row['number']}.{name}" in tensors}
    facts = json.dumps(row["facts"], ensure_ascii=False)
    return str(row["made"]), str(row["author"]), facts, packed(_entry(own)) if own else None


def _packed(tensors: Mapping[str, Tensor]) -> bytes:
    return zlib.compress(_bytes(tensors), 6)  # of large ones; lzma would take seconds for them


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _unpacked(blob: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(lzma.decompress(blob) if blob.startswith(_XZ) else zlib.decompress(blob))
