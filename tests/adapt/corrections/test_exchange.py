"""Exports that were damaged or changed are refused, and leave the store and every answer as they were."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adapt.corrections import manage
from adapt.corrections.model_memory import ModelMemory, corrected
from adapt.data.loader import Loader
from adapt.data.pairs import Pair
from adapt.data.synthetic.domains import domains
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from interventions.corrections.contents import read_export
from interventions.corrections.store import CorrectionStore

WANTED = [
    Pair("Will it be foggy tomorrow?", "Ist es morgen neblig?"),
    Pair("It is cold today.", "Heute ist es sehr kalt."),
]


@pytest.fixture(scope="module")
def loaded():
    return load_model("weather-en-de")


@pytest.fixture(scope="module")
def made(loaded, tmp_path_factory):
    """A store of two corrections, its export, and protected sentences."""
    folder = tmp_path_factory.mktemp("exchange")
    protected = domains(train=0, validation=0, test=0, source_test=0, source_train=120).source_train
    memory = ModelMemory.create(loaded, protected, folder / "c.db")
    assert all(memory.correct(pair, "ann").fixed for pair in WANTED)
    manage.export_corrections(loaded, folder / "c.safetensors", folder / "c.db")
    return folder, list(protected[:20])


def answers(loaded, path, examples):
    with corrected(loaded, str(path)):
        return decode_examples(loaded.model, loaded.model.task, examples, Loader())


def changed(source, target, edit, checksum=False):
    """Write an export whose header and tensors `edit` has changed; with the checksum of the changed file if asked."""
    with safe_open(source, "pt") as file:
        header = json.loads(file.metadata()["innertune"])
    tensors = load_file(source)
    header, tensors = edit(header, tensors) or (header, tensors)
    if checksum:
        header["checksum"] = "0" * 64
    else:
        header.pop("checksum", None)
    save_file(tensors, target, {"innertune": json.dumps(header)})
    if checksum:
        import hashlib

        data = target.read_bytes()
        target.write_bytes(data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1))


def put(name, change):
    def edit(header, tensors):
        tensors[name] = change(tensors[name])

    return edit


def nan(tensor):
    tensor = tensor.clone()
    tensor.view(-1)[len(tensor) // 2] = float("nan")
    return tensor


def times_minus_three(header, tensors):
    for name in list(tensors):
        if name.endswith((".values", ".targets")):
            tensors[name] = (-3 * tensors[name].int()).clamp(-32767, 32767).short()


def forged_targets(header, tensors):
    for name in list(tensors):
        if name.endswith(".targets"):
            tensors[name] = torch.randint(-30000, 30000, tensors[name].shape).short()


def without(*path):
    def edit(header, tensors):
        place = header
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return edit


def set_to(value, *path):
    def edit(header, tensors):
        place = header
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return edit


EDITS = {
    "NaN in radii": put("1.radii", nan),
    "NaN in second": put("second", nan),
    "infinite sample": put("sample", lambda one: one / 0),
    "negative radii": put("1.radii", lambda one: -one),
    "large radii": put("1.radii", lambda one: 1000 * one),
    "radii of another shape": put("1.radii", lambda one: one[:-1]),
    "values in float": put("1.values", lambda one: one.float()),
    "values times -3": times_minus_three,
    "wild targets": forged_targets,
    "inputs of another width": put("1.inputs", lambda one: one[:, :-1].contiguous()),
    "zero steps": put("input_step", lambda one: 0 * one),
    "asymmetric second": put("second", lambda one: one + torch.randn(one.shape) * one.abs().max()),
    "no text": without("corrections", 0, "facts", "text"),
    "a number as text": set_to(3, "corrections", 0, "facts", "text"),
    "half a character": set_to("\ud83d", "corrections", 0, "facts", "text"),
    "no example's source": without("corrections", 0, "facts", "example", "target"),
    "two of one number": set_to(2, "corrections", 0, "number"),
    "a negative number": set_to(-1, "corrections", 0, "number"),
    "no made": without("corrections", 0, "made"),
    "facts as a list": set_to([], "corrections", 0, "facts"),
    "no layer": without("memory", "layer"),
    "another kernel": set_to(3, "memory", "layer", "kernel"),
    "a huge stride": set_to(10**30, "memory", "layer", "stride"),
    "strength NaN": set_to(float("nan"), "memory", "strength"),
    "protected as text": set_to("abc", "memory", "facts", "protected"),
}


@pytest.mark.slow
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("what", EDITS)
def test_a_changed_export_is_refused_and_changes_nothing(loaded, made, tmp_path, what, checksum):
    folder, protected = made
    path, file = tmp_path / "c.db", tmp_path / "c.safetensors"
    changed(folder / "c.safetensors", file, EDITS[what], checksum)
    with pytest.raises(InputError) as error:
        manage.import_corrections(loaded, file, path)
    assert str(file) in str(error.value)
    assert not CorrectionStore.exists(path)


@pytest.mark.slow
def test_a_refused_import_leaves_a_store_and_its_answers(loaded, made, tmp_path):
    folder, protected = made
    manage.import_corrections(loaded, folder / "c.safetensors", tmp_path / "c.db")
    manage.undo_correction(loaded, 2, tmp_path / "c.db")
    examples = [*WANTED, *protected]
    before, rows = answers(loaded, tmp_path / "c.db", examples), manage.list_corrections(loaded, tmp_path / "c.db")
    for what in ("values times -3", "NaN in radii", "no text", "two of one number"):
        changed(folder / "c.safetensors", tmp_path / "c.safetensors", EDITS[what], True)
        with pytest.raises(InputError):
            manage.import_corrections(loaded, tmp_path / "c.safetensors", tmp_path / "c.db")
    assert manage.list_corrections(loaded, tmp_path / "c.db") == rows
    assert answers(loaded, tmp_path / "c.db", examples) == before


@pytest.mark.slow
def test_any_altered_byte_is_noticed(loaded, made, tmp_path):
    data = (made[0] / "c.safetensors").read_bytes()
    file, draw = tmp_path / "c.safetensors", torch.Generator().manual_seed(0)
    header = 8 + int.from_bytes(data[:8], "little")
    places = [*range(0, 40), *torch.randint(header, (40,), generator=draw).tolist(), header - 1,
              *(header + torch.randint(len(data) - header, (40,), generator=draw)).tolist(), len(data) - 1]  # fmt: skip
    for place in places:
        for mask in (1, 0x80):
            file.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            with pytest.raises(InputError):
                manage.import_corrections(loaded, file, tmp_path / "c.db")
    for cut in (0, 7, 100, header, len(data) - 1):
        file.write_bytes(data[:cut])
        with pytest.raises(InputError):
            manage.import_corrections(loaded, file, tmp_path / "c.db")
    assert not (tmp_path / "c.db").exists()


@pytest.mark.slow
def test_an_export_of_an_older_version_is_read_and_said_to_have_no_checksum(loaded, made, tmp_path, caplog):
    folder, _ = made
    changed(folder / "c.safetensors", tmp_path / "c.safetensors", lambda header, tensors: None)
    with caplog.at_level("INFO"):
        assert manage.import_corrections(loaded, tmp_path / "c.safetensors", tmp_path / "c.db") == [1, 2]
    assert "has no checksum, because version 0.1 wrote it. Its values were checked." in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        assert manage.import_corrections(loaded, folder / "c.safetensors", tmp_path / "new.db") == [1, 2]
    assert "checksum" not in caplog.text
    assert read_export(folder / "c.safetensors", loaded.fingerprint).has_checksum
    assert answers(loaded, tmp_path / "new.db", WANTED) == [pair.target for pair in WANTED]


@pytest.mark.slow
def test_names_are_exported_only_if_asked_for_and_come_in_once(loaded, made, tmp_path):
    folder, _ = made
    store = folder / "c.db"
    assert b'"ann"' not in _text(folder / "c.safetensors")
    named = tmp_path / "named.safetensors"
    manage.export_corrections(loaded, named, store, names=True)
    assert b'"ann"' in _text(named)
    for file in (folder / "c.safetensors", named):
        assert manage.import_corrections(loaded, file, store) == []


def _text(path: Path) -> bytes:
    return path.read_bytes().replace(b"\\", b"")


@pytest.mark.slow
def test_a_damaged_correction_is_named_and_can_be_removed(loaded, made, tmp_path):
    import shutil
    import sqlite3

    path = tmp_path / "c.db"
    shutil.copy(made[0] / "c.db", path)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE corrections SET facts = '{}' WHERE number = 1")
    file.close()
    for what in (manage.list_corrections, lambda *given: ModelMemory.open(*given).records()):
        with pytest.raises(InputError, match="Correction 1 in .* is damaged .it has no before.*undo 1"):
            what(loaded, path)
    manage.undo_correction(loaded, 1, path)
    assert [record.number for record in manage.list_corrections(loaded, path)] == [2]
