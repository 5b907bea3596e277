"""Correction stores: damaged files, foreign schemas, wrong types, and blobs that unpack to too much or other values."""

import lzma
import random
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import torch

from adapt.corrections import manage
from adapt.corrections.model_memory import ModelMemory, corrected
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.loaded import Loaded
from adapt.models.model_files import save_model
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from fuzzing.damage import damage_bytes, damage_json_file, damage_safetensors
from fuzzing.frame import Case, Make, Wrong
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Memory
from interventions.corrections.protect import Protected
from interventions.corrections.store import CorrectionStore

_COLUMNS = {
    "memory": ("one", "format", "fingerprint", "header", "tensors", "folded"),
    "corrections": ("number", "made", "author", "facts", "tensors"),
}
_VALUES = (
    None, 0, -1, 1, 5, 2**63 - 1, -(2**63), 0.5, float("inf"), float("nan"), "", "a", "\0", "4", "{}", "[]", "null",
    '{"text": 1, "before": 2}', '{"before": "a", "text": "b", "example": {"audio": "\\u0000"}}', '{"a": NaN}',
    "[" * 100_000, "1" * 5000, b"", b"\xff", bytes(1000), b"\xfd7zXZ\0", "é" * 1000,
)  # fmt: skip
_ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
_SCHEMAS = (
    "DROP TABLE memory; CREATE VIEW memory AS {endless} 1 one, 4 format, 'a' fingerprint, '' header, '' tensors, "
    "'' folded FROM n WHERE x < 0",
    "DROP TABLE corrections; CREATE VIEW corrections AS {endless} x number, 1 made, 1 author, 1 facts, 1 tensors"
    " FROM n",
    "CREATE TRIGGER t AFTER INSERT ON corrections BEGIN DELETE FROM corrections; END",
    "CREATE VIRTUAL TABLE v USING fts5(x)",
    "CREATE INDEX i ON corrections (facts)",
    "ALTER TABLE corrections ADD COLUMN more",
    "ALTER TABLE corrections ADD COLUMN more AS (zeroblob(1000000000))",
    "ALTER TABLE memory RENAME TO other",
    "ALTER TABLE memory RENAME COLUMN tensors TO other",
    "DROP TABLE corrections",
    "CREATE TABLE more (x)",
    "PRAGMA user_version = 7",
    "PRAGMA page_size = 512; VACUUM",
    "PRAGMA journal_mode = DELETE",
)


def prepare(work: Path) -> Make:
    """Write a small model and a store of two corrections and an override of it."""
    loaded = small_model(work)
    path = work / "c.db"
    fill_store(loaded, path)

    def make(draw: random.Random, folder: Path) -> Case:
        place = folder / "c.db"
        place.write_bytes(path.read_bytes())
        way = draw.random()
        if way < 0.3:
            what, data = damage_bytes(draw, place.read_bytes())
            place.write_bytes(data)
        elif way < 0.45:
            what = draw.choice(_SCHEMAS)
            _script(place, what.format(endless=_ENDLESS))
        else:
            what = _damage_value(draw, place)
        return Case(what, lambda: _use(loaded, place))

    return make


def small_model(work: Path) -> Loaded:
    """Return a small model of random weights, as read from a file in `work`."""
    torch.manual_seed(0)
    model = Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(" ab")).eval()
    save_model(work / "base.safetensors", model)
    return load_model(str(work / "base.safetensors"))


def fill_store(loaded: Loaded, path: Path) -> CorrectionStore:
    """Create a store of two corrections of random values, and of an override."""
    site = next(site for site in loaded.model.sites if site.name.endswith("conv2"))
    layer = AffineLayer.at_site(loaded.model, site)
    draw = torch.Generator().manual_seed(0)
    inputs = [torch.randn(30, layer.inputs, generator=draw) for _ in range(12)]
    outputs = [torch.randn(len(layer.keys(one)), site.units, generator=draw) for one in inputs]
    memory = Memory.new(Protected.fit(layer, inputs, outputs, dimensions=8), 30.0)
    facts = {"model": "base", "protected": [], "others": [], "examples": 12, "limits": {"cost": 10.0, "size": 1.0}}
    store = CorrectionStore.create(path, loaded.fingerprint, memory, **facts)
    for number in (0, 1):
        example = {"audio": "/none.wav", "text": "a", "offset": 0.0, "duration": 1.0, "speaker": "anna"}
        entry = memory.entry(inputs[number], 0.1 * outputs[number])
        store.add(entry, "ann", example=example, before="a", text="ab")
    store.add(None, "ann", before="b", text="ba", override="not said")
    return store


def _damage_value(draw: random.Random, path: Path) -> str:
    table = draw.choice(list(_COLUMNS))
    column = draw.choice(_COLUMNS[table])
    file = sqlite3.connect(path, isolation_level=None)
    try:
        (value,) = file.execute(f"SELECT {column} FROM {table}").fetchone()
        what, new = _damaged(draw, value)
        file.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = (SELECT min(rowid) FROM {table})", (new,))
    except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:  # the schema does not allow it
        what = f"nothing ({error})"
    finally:
        file.close()
    return f"{table}.{column}: {what}"


def _damaged(draw: random.Random, value: Any) -> tuple[str, Any]:
    way = draw.random()
    if way < 0.3 or not isinstance(value, (str, bytes)):
        new = draw.choice(_VALUES)
        return ascii(new)[:40], new
    if isinstance(value, str):
        if value.startswith("{"):
            what, data = damage_json_file(draw, value.encode())
        else:
            what, data = damage_bytes(draw, value.encode())
        return what, data.decode(errors="replace")
    if way < 0.45:
        return damage_bytes(draw, value)
    if way < 0.5:
        pack = draw.choice([lzma.compress, zlib.compress])
        return "a bomb", pack(bytes(100 << 20))
    packed_by_lzma = value.startswith(b"\xfd7zXZ")
    plain = lzma.decompress(value) if packed_by_lzma else zlib.decompress(value)
    if way < 0.8:
        what, plain = damage_safetensors(draw, plain)
    else:
        length = 8 + int.from_bytes(plain[:8], "little")
        what, body = damage_bytes(draw, plain[length:])
        what, plain = f"values: {what}", plain[:length] + body
    return what, lzma.compress(plain) if packed_by_lzma else zlib.compress(plain)


def _script(path: Path, statements: str) -> None:
    file = sqlite3.connect(path, isolation_level=None)
    try:
        file.executescript(statements)
    except sqlite3.Error:
        pass
    finally:
        file.close()


def _use(loaded: Loaded, path: Path) -> None:
    records = manage.list_corrections(loaded, path)
    with corrected(loaded, str(path)):
        pass
    memory = ModelMemory.open(loaded, path).memory
    fit = memory.corrections.fitted()
    if not all(
        bool(torch.isfinite(one).all()) for one in (fit.weight, fit.bias, fit.codebook.values, fit.codebook.radii)
    ):
        raise Wrong("the corrections are not finite")
    manage.export_corrections(loaded, path.with_name("out.safetensors"), path)
    for record in records[:1]:
        manage.undo_correction(loaded, record.number, path)
