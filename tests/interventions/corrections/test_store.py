"""What is acknowledged is there, whatever is killed; two processes add at once; a file goes from hand to hand whole."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from correcting import Frames, correct_one, inputs, protected, wanted

from interventions.bits import changed_bits
from interventions.corrections.memory import Memory
from interventions.corrections.packing import pack, unpack
from interventions.corrections.store import CorrectionStore
from interventions.files import FileError
from interventions.intervene import intervene

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def net():
    return Frames().eval()


@pytest.fixture(scope="module")
def taught(net):
    memory = Memory.new(protected(net), 30.0)
    for number in range(1, 6):
        assert correct_one(net, memory, number).fixed
    return memory


@pytest.fixture
def store(tmp_path, taught):
    """A store with five corrections."""
    store = CorrectionStore.create(tmp_path / "corrections.db", "model", taught, protected=["a", "b"])
    for number, entry in taught.entries.items():
        assert store.add(entry, "ann", text=f"text {number}") == number
    return store


def put(net, memory, number=2):
    with torch.no_grad(), intervene(net, memory):
        return net(inputs(number))


def test_what_is_read_is_what_was_kept(net, taught, store):
    read = CorrectionStore(store.path, "model")
    assert not changed_bits(put(net, read.memory()), put(net, taught)).any()
    assert changed_bits(put(net, read.memory()), net(inputs(2))).any()
    records = read.records()
    assert [(one.number, one.author, one.facts) for one in records] == [
        (number, "ann", {"text": f"text {number}"}) for number in range(1, 6)
    ]
    assert all(0 < one.bytes < 20_000 and one.made.endswith("+00:00") for one in records)
    assert read.facts == {"protected": ["a", "b"]}


def test_taken_back_it_is_gone_from_every_memory_and_its_number_is_not_used_again(net, taught, store):
    mine, others = store.memory(), CorrectionStore(store.path, "model").memory()
    assert store.remove(5).facts == {"text": "text 5"}
    assert store.refresh(mine) and store.refresh(others) and not store.refresh(mine)
    assert sorted(mine.entries) == sorted(others.entries) == [1, 2, 3, 4]
    with pytest.raises(FileError, match="no correction 5. There are: 1, 2, 3, 4"):
        store.remove(5)
    assert store.add(taught.entries[5], "ann") == 6
    for number in (1, 2, 3, 4, 6):
        store.remove(number)
    assert not changed_bits(put(net, store.memory()), net(inputs(2))).any()


def test_one_without_vectors_edits_nothing(store):
    number = store.add(None, "ann", hint=True)
    assert store.record(number).bytes == 0 and number not in store.memory().entries


def test_another_models_store_is_refused(store):
    with pytest.raises(
        FileError, match="belong to another model, with fingerprint model.... This model has fingerprint other"
    ):
        CorrectionStore(store.path, "other")


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(FileError, match="There are no corrections at"):
        CorrectionStore(tmp_path / "none.db", "model")
    (tmp_path / "text.db").write_text("a text that is long enough to be no database at all" * 30)
    with pytest.raises(FileError, match="cannot be used as a correction store"):
        CorrectionStore(tmp_path / "text.db", "model")
    with sqlite3.connect(tmp_path / "other.db") as file:
        file.execute("CREATE TABLE words (word TEXT)")
    file.close()
    with pytest.raises(FileError, match="cannot be used as a correction store"):
        CorrectionStore(tmp_path / "other.db", "model")


ADD = """
import sys
sys.path.insert(0, sys.argv[1])
from interventions.corrections.store import CorrectionStore
store = CorrectionStore(sys.argv[2], "model")
entry = store.memory().entries[1]
print("ready", flush=True)
while True:
    print(store.add(entry, sys.argv[3], text="x" * 10_000), flush=True)
"""


def adding(store, name):
    command = [sys.executable, "-c", ADD, str(HERE), str(store.path), name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_killed_at_any_instant_nothing_acknowledged_is_lost_and_nothing_is_there_by_half(store):
    """Two processes add at once, and are killed; what they had been told the number of is there, and whole."""
    processes = [adding(store, name) for name in ("ann", "bob")]
    told = {}
    for process, name in zip(processes, ("ann", "bob"), strict=True):
        for _ in range(5):
            told[int(process.stdout.readline())] = name
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process, name in zip(processes, ("ann", "bob"), strict=True):
        told |= {int(line): name for line in process.stdout.read().splitlines() if line.strip()}
        process.wait()
        process.stdout.close()
    records = {record.number: record for record in CorrectionStore(store.path, "model").records()}
    assert len(told) >= 10 and all(records[number].author == name for number, name in told.items())
    # What a process was killed before it could say may be there too, and is then whole.
    assert len(records) - len(told) - 5 <= 2
    memory = store.memory()
    assert memory.entries.keys() == records.keys()
    assert all(torch.equal(entry.values, memory.entries[1].values) for n, entry in memory.entries.items() if n in told)
    assert all(record.facts == {"text": "x" * 10_000} for n, record in records.items() if n > 5)


READ = """
import sys, torch
from safetensors.torch import save_file
sys.path.insert(0, sys.argv[1])
from correcting import Frames, inputs
from interventions.corrections.store import CorrectionStore
from interventions.intervene import intervene
store, numbers = CorrectionStore.load(sys.argv[2], sys.argv[3], "model")
net = Frames().eval()
with torch.no_grad(), intervene(net, store.memory()):
    save_file({"put": net(inputs(2)), "numbers": torch.tensor(numbers)}, sys.argv[4])
"""


@pytest.mark.slow
def test_exported_and_imported_in_a_fresh_process_it_does_the_same(net, store, tmp_path):
    from safetensors.torch import load_file

    store.remove(3)
    hint = store.add(None, "ann", hint=True)
    exported, out = tmp_path / "corrections.safetensors", tmp_path / "out.safetensors"
    store.export(exported)
    command = [sys.executable, "-c", READ, str(HERE), str(tmp_path / "new" / "c.db"), str(exported), str(out)]
    subprocess.run(command, check=True)
    found = load_file(out)
    assert not changed_bits(found["put"], put(net, store.memory())).any()
    assert found["numbers"].tolist() == [1, 2, 4, 5, hint]
    there = CorrectionStore(tmp_path / "new" / "c.db", "model")
    assert there.records() == store.records() and there.facts == store.facts


def test_imported_beside_others_they_get_new_numbers_and_once(store, taught, tmp_path):
    store.export(tmp_path / "c.safetensors")
    other = CorrectionStore.create(tmp_path / "other.db", "model", taught)
    for entry in taught.entries.values():
        other.add(entry, "bob", text="another")
    again, numbers = CorrectionStore.load(other.path, tmp_path / "c.safetensors", "model")
    assert numbers == [6, 7, 8, 9, 10] and len(again.memory().entries) == 10
    again, numbers = CorrectionStore.load(other.path, tmp_path / "c.safetensors", "model")
    assert numbers == [] and len(again.records()) == 10


def test_what_cannot_be_imported_leaves_the_store_as_it_was(net, store, taught, tmp_path):
    store.export(tmp_path / "c.safetensors")
    with pytest.raises(FileError, match="belong to another model"):
        CorrectionStore.load(tmp_path / "new.db", tmp_path / "c.safetensors", "other")
    assert not (tmp_path / "new.db").exists()
    other = CorrectionStore.create(tmp_path / "other.db", "model", Memory.new(protected(net, "third"), 30.0))
    with pytest.raises(FileError, match="for another layer or with other protected inputs"):
        CorrectionStore.load(other.path, tmp_path / "c.safetensors", "model")
    assert not other.records()


def test_who_comes_second_finds_the_first_ones_store(store, net):
    again = CorrectionStore.create(store.path, "model", Memory.new(protected(net, "third"), 1.0))
    assert again.memory().protected.layer.site.name == "second" and len(again.records()) == 5


def test_what_is_folded_is_kept(net, taught, tmp_path):
    weight, bias, _, _ = taught.corrections.fitted()
    folded = torch.cat([weight, bias[:, None]], 1)
    store = CorrectionStore.create(tmp_path / "f.db", "model", Memory.new(taught.protected, 30.0, folded))
    assert torch.equal(store.memory().folded, folded)
    store.export(tmp_path / "f.safetensors")
    again, _ = CorrectionStore.load(tmp_path / "again.db", tmp_path / "f.safetensors", "model")
    assert torch.equal(again.memory().folded, folded)


def test_a_store_that_is_deleted_is_not_made_anew(store, taught):
    store.path.unlink()
    for what in (store.records, store.memory, lambda: store.add(taught.entries[1], "ann")):
        with pytest.raises(FileError, match="cannot be used as a correction store .unable to open"):
            what()
    assert not store.path.exists() and not CorrectionStore.exists(store.path)


def test_what_a_killed_process_began_to_make_is_nothing_and_can_be_made(tmp_path, taught):
    path = tmp_path / "c.db"
    begun = sqlite3.connect(path)
    begun.execute("PRAGMA journal_mode = WAL")
    begun.close()
    assert path.is_file() and not CorrectionStore.exists(path)
    with pytest.raises(FileError, match="There are no corrections at"):
        CorrectionStore(path, "model")
    assert CorrectionStore.create(path, "model", taught).add(taught.entries[1], "ann") == 1
    assert CorrectionStore.exists(path)


def test_where_nothing_can_be_written_it_can_be_read(net, taught, store, monkeypatch):
    monkeypatch.setattr("interventions.corrections.database.os.access", lambda *arguments: False)
    read = CorrectionStore(store.path, "model")
    assert not changed_bits(put(net, read.memory()), put(net, taught)).any() and len(read.records()) == 5
    with pytest.raises(FileError, match="readonly"):
        read.add(taught.entries[1], "ann")
    with pytest.raises(FileError, match="readonly"):
        read.remove(1)
    assert sorted(path.name for path in store.path.parent.iterdir()) == ["corrections.db"]


def test_where_none_can_be_made(tmp_path, taught):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be created"):
        CorrectionStore.create(tmp_path / "file" / "c.db", "model", taught)
    with pytest.raises(FileError, match="cannot be used"):
        CorrectionStore.create(tmp_path, "model", taught)


def test_one_that_another_process_holds_is_said_to_be(store, taught, monkeypatch):
    monkeypatch.setattr("interventions.corrections.database._TIMEOUT", 0.05)
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(FileError, match="database is locked"):
            store.add(taught.entries[1], "ann")
        assert len(store.records()) == 5  # reading goes on
    finally:
        holder.close()


def test_the_gate_is_kept(net, taught, store):
    read = store.memory()
    assert read.corrections.gated and not store.memory(gated=False).corrections.gated
    mine, others = read.corrections.fitted()[3], taught.corrections.fitted()[3]
    assert torch.equal(mine.quadratic, others.quadratic) and torch.equal(mine.bias, others.bias)


@pytest.mark.parametrize("number", [1, 2])
def test_a_store_of_an_older_format_is_read_without_a_gate(net, taught, store, number, tmp_path):
    # Which had another gate or none, put the change itself to the regression, and had a finer grid.
    with sqlite3.connect(store.path) as file:
        header, blob = file.execute("SELECT header, tensors FROM memory").fetchone()
        header = json.loads(header)
        header.pop("quantisation_levels")
        own = {name: tensor for name, tensor in unpack(blob).items() if not name.startswith("gate.")}
        own["value_step"] = own["value_step"] / 16
        if number == 2:
            own |= {"gate.mean": torch.zeros(24), "gate.covariance": torch.eye(24)}
        file.execute("UPDATE memory SET format = ?, header = ?, tensors = ?", (number, json.dumps(header), pack(own)))
        for row, entry in taught.entries.items():
            older = {"inputs": entry.inputs, "values": 16 * entry.values, "radii": entry.radii}
            file.execute("UPDATE corrections SET tensors = ? WHERE number = ?", (pack(older), row))
    file.close()
    older = CorrectionStore(store.path, "model")
    memory = older.memory()
    assert (
        not memory.corrections.gated
        and len(memory.entries) == 5
        and memory.protected.output_scale == taught.protected.output_scale
    )
    ungated = Memory.new(taught.protected, 30.0, gated=False)
    for row, entry in taught.entries.items():
        ungated.add(row, replace(entry, targets=entry.values))
    torch.testing.assert_close(put(net, memory), put(net, ungated), rtol=1e-4, atol=1e-4)
    # More can be added, and all of it goes from hand to hand.
    assert correct_one(net, memory, 9).fixed
    older.add(memory.entries[9], "ann")
    older.export(tmp_path / "old.safetensors")
    there, numbers = CorrectionStore.load(tmp_path / "new.db", tmp_path / "old.safetensors", "model")
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert not changed_bits(put(net, there.memory()), put(net, memory)).any()
    with pytest.raises(FileError, match="Update innertune"), _format_of_today(1):
        CorrectionStore(older.path, "model")  # what was added would be nothing to an older version, which is told so


@pytest.mark.parametrize("kind", ["db", "safetensors"])
def test_files_that_version_0_1_wrote_in_format_3_are_read(net, kind, tmp_path):
    path = tmp_path / "corrections.db"
    if kind == "db":
        shutil.copy(Path(__file__).parent / "format3.db", path)
        old = CorrectionStore(path, "model")
    else:
        old, numbers = CorrectionStore.load(path, Path(__file__).parent / "format3.safetensors", "model")
        assert numbers == [1, 2, 3]
    assert [(one.number, one.author, one.facts) for one in old.records()] == [
        (1, "ann", {"text": "text 1"}), (2, "ann", {"text": "text 2"}), (3, "ann", {"hint": True}),
    ]  # fmt: skip
    memory = old.memory()
    assert memory.corrections.gated and memory.protected.quantisation_levels == 16 and memory.ridge_strength == 30
    assert all(not torch.equal(entry.targets, entry.values) for entry in memory.entries.values())
    for number in (1, 2):
        assert torch.equal(put(net, memory, number).argmax(-1)[0], wanted(net, number))
    # What is added is written in today's format, beside the old.
    assert correct_one(net, memory, 9).fixed
    old.add(memory.entries[9], "ann")
    again = CorrectionStore(path, "model").memory()
    for entry, other in zip(memory.entries.values(), again.entries.values(), strict=True):
        assert all(torch.equal(getattr(entry, name), getattr(other, name)) for name in ("inputs", "values", "targets"))


@contextmanager
def _format_of_today(number):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interventions.corrections.store.FORMAT", number)
        yield


def test_a_damaged_correction_is_named_and_can_be_taken_back(net, taught, store, tmp_path):
    with sqlite3.connect(store.path) as file:
        file.execute("UPDATE corrections SET tensors = substr(tensors, 1, 100) WHERE number = 2")
    file.close()
    again = CorrectionStore(store.path, "model")
    assert len(again.records()) == 5
    for what in (again.memory, lambda: again.export(tmp_path / "c.safetensors")):
        with pytest.raises(FileError, match="is damaged"):
            what()
    with pytest.raises(FileError, match="Correction 2 in .* is damaged .*undo 2"):
        again.memory()
    again.remove(2)
    assert sorted(again.memory().entries) == [1, 3, 4, 5]
    with sqlite3.connect(store.path) as file:
        file.execute("UPDATE memory SET tensors = x'00'")
    file.close()
    with pytest.raises(FileError, match="The memory in .* is damaged"):
        again.memory()
