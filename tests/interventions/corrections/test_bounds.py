"""Stores from elsewhere: nothing in them runs, and none takes the memory or the time of the machine."""

import lzma
import resource
import shutil
import sqlite3
import time
import zlib

import pytest
import torch
from correcting import Frames, correct_one, protected

from interventions.corrections import database
from interventions.corrections.memory import Memory
from interventions.corrections.packing import pack, unpack
from interventions.corrections.store import CorrectionStore
from interventions.files import FileError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    net = Frames().eval()
    memory = Memory.new(protected(net), 30.0)
    path = tmp_path_factory.mktemp("made") / "c.db"
    store = CorrectionStore.create(path, "model", memory)
    for number in (1, 2):
        assert correct_one(net, memory, number).fixed
        store.add(memory.entries[number], "ann", text="a")
    return path


@pytest.fixture
def path(made, tmp_path):
    shutil.copy(made, tmp_path / "c.db")
    return tmp_path / "c.db"


def change(path, *statements):
    with sqlite3.connect(path, isolation_level=None) as file:
        for statement, *values in statements:
            file.execute(statement, *values)
    file.close()


def everything(path):
    store = CorrectionStore(path, "model")
    store.memory()
    store.records()
    return store


def bomb(compress, size=1 << 28):
    block = bytes(1 << 20)
    coder = lzma.LZMACompressor(preset=1) if compress is lzma.compress else zlib.compressobj(1)
    return b"".join(coder.compress(block) for _ in range(size >> 20)) + coder.flush()


@pytest.mark.slow
@pytest.mark.parametrize("compress", [lzma.compress, zlib.compress])
@pytest.mark.parametrize("column", ["corrections", "memory"])
def test_a_blob_that_unpacks_to_far_more_is_refused_before_it_does(path, compress, column):
    blob = bomb(compress)
    assert len(blob) < 6 << 20
    change(path, (f"UPDATE {column} SET tensors = ?", (blob,)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FileError, match="unpack to more than"):
        everything(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 220 << 10  # kB


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
FOREIGN = {
    "an endless view as the memory": [
        ("DROP TABLE memory",),
        (f"CREATE VIEW memory AS {ENDLESS} 1 AS one, 4 AS format, 'model' AS fingerprint, '' AS header, '' AS tensors, "
         "'' AS folded FROM n WHERE x < 0",),
    ],
    "an endless view as the corrections": [
        ("DROP TABLE corrections",),
        (f"CREATE VIEW corrections AS {ENDLESS} x number, 1 made, 1 author, 1 facts, 1 tensors FROM n",),
    ],
    "a trigger": [("CREATE TRIGGER more AFTER DELETE ON corrections BEGIN DELETE FROM memory; END",)],
    "one more view": [("CREATE VIEW more AS SELECT 1",)],
    "one more table": [("CREATE TABLE more (x)",)],
    "an index": [("CREATE INDEX more ON corrections (text(facts))".replace("text(facts)", "facts"),)],
    "a virtual table": [("CREATE VIRTUAL TABLE more USING fts5(x)",)],
    "a generated column": [("ALTER TABLE corrections ADD COLUMN more AS (zeroblob(1000000000))",)],
    "a column of another type": [
        ("DROP TABLE memory",),
        ("CREATE TABLE memory (one, format, fingerprint, header, tensors, folded)",),
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_schema_is_refused_before_anything_is_read(path, what):
    change(path, *FOREIGN[what])
    started = time.monotonic()
    with pytest.raises(FileError, match="its tables are not those of a correction store"):
        everything(path)
    assert time.monotonic() - started < 5


def test_another_programs_database_is_not_changed(tmp_path):
    path = tmp_path / "places.sqlite"
    change(path, ("CREATE TABLE words (word TEXT)",))
    before = path.read_bytes()
    with pytest.raises(FileError, match="cannot be used"):
        everything(path)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["places.sqlite"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE memory SET format = 'four'",
        "UPDATE memory SET format = x'00'",
        "UPDATE memory SET format = 1e300",
        "UPDATE memory SET fingerprint = x'00ff'",
        "UPDATE memory SET header = x'00'",
        "UPDATE memory SET header = '[]'",
        "UPDATE memory SET header = replace(header, '\"strength\": 30.0', '\"strength\": NaN')",
        "UPDATE memory SET header = replace(header, '\"kernel\": 5', '\"kernel\": 500000')",
        "UPDATE memory SET header = replace(header, '\"kernel\": 5', '\"kernel\": true')",
        "UPDATE memory SET tensors = 'text'",
        "UPDATE memory SET tensors = zeroblob(1000)",
        "UPDATE memory SET folded = zeroblob(1000)",
        "DELETE FROM memory",
        "UPDATE corrections SET facts = 3",
        "UPDATE corrections SET facts = '[]'",
        "UPDATE corrections SET facts = '{\"a\": NaN}'",
        "UPDATE corrections SET facts = CAST(x'ff' AS TEXT)",
        "UPDATE corrections SET author = x'ff'",
        "UPDATE corrections SET made = 4 + 0 * length(author)",
        "UPDATE corrections SET tensors = 7",
        "UPDATE corrections SET tensors = 'text'",
        "UPDATE corrections SET number = -number",
    ],
)
def test_wrong_types_are_refused(path, statement):
    change(path, (statement,))
    if statement.startswith("UPDATE corrections SET made"):  # a number in a text column becomes text
        everything(path)
        return
    with pytest.raises(FileError):
        everything(path)


def test_values_that_no_memory_writes_are_refused(path):
    with sqlite3.connect(path) as file:
        (blob,) = file.execute("SELECT tensors FROM memory").fetchone()
        (entry,) = file.execute("SELECT tensors FROM corrections").fetchone()
    file.close()
    for table, packed, name, edit in (
        ("memory", blob, "second", lambda one: one * float("nan")),
        ("memory", blob, "input_step", lambda one: -one),
        ("memory", blob, "gate.rows", lambda one: one[:, 1:].contiguous()),
        ("corrections", entry, "radii", lambda one: one * float("inf")),
        ("corrections", entry, "radii", lambda one: one * 100),
        ("corrections", entry, "values", lambda one: torch.cat([one] * 9)),
    ):
        tensors = unpack(packed)
        tensors[name] = edit(tensors[name])
        change(path, (f"UPDATE {table} SET tensors = ?", (pack(tensors),)))
        with pytest.raises(FileError, match="is damaged"):
            everything(path)
        change(path, (f"UPDATE {table} SET tensors = ?", (packed,)))
    everything(path)


def test_a_store_that_is_too_large_or_takes_too_long_is_refused(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(database, "_LARGEST", 1000)
        with pytest.raises(FileError, match="MiB; at most"):
            everything(path)
    with (
        database.opened(path) as connection,
        monkeypatch.context() as patch,
        pytest.raises(sqlite3.OperationalError, match="interrupted"),
    ):
        patch.setattr(database.time, "monotonic", lambda: float("inf"))
        connection.execute(f"{ENDLESS} count(*) FROM n").fetchall()
    with database.opened(path) as connection:
        with pytest.raises(sqlite3.OperationalError, match="too many attached"):
            connection.execute("ATTACH ':memory:' AS other")
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("SELECT load_extension('libc.so.6')")
