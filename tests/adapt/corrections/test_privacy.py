"""What people said, who they are and where their files lie: only the owner reads it, and it can be forgotten."""

import json
import shutil
import sqlite3
from dataclasses import replace

import pytest

from adapt.corrections import manage
from adapt.corrections.forget import forget
from adapt.corrections.model_memory import ModelMemory, corrected
from adapt.corrections.support import SupportLimits
from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from interventions.corrections.store import CorrectionStore

SPEAKERS = ("anna-lovelace", "bert-turing")


def mode(path):
    return oct(path.stat().st_mode & 0o777)


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def made(loaded, speech, tmp_path_factory):
    """A store with a correction of each of two speakers, and protected examples of both and of others."""
    folder = tmp_path_factory.mktemp("made") / "new" / "folder"
    examples = read_manifest(speech["low_validation"])[0] + read_manifest(speech["low_train"])[0][:12]
    protected = [replace(one, speaker=(*SPEAKERS, "others")[min(number, 2)]) for number, one in enumerate(examples)]
    memory = ModelMemory.create(loaded, protected, folder / "c.db", "*.conv4", 30.0, limits=SupportLimits(1e3, 1e3))
    fixed = []
    for example in read_manifest(speech["high_train"])[0]:
        speaker = SPEAKERS[len(fixed) % 2]
        outcome = memory.correct(replace(example, speaker=speaker), "author-name", check_protected=False)
        if outcome.fixed and outcome.number:
            fixed.append((example, speaker, outcome))
        if len(fixed) == 4:
            return folder, fixed
    raise AssertionError("too few corrections")


@pytest.fixture
def store(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "store")
    return tmp_path / "store" / "c.db"


def found(folder, *texts):
    """Return which of the texts are in any file below a folder, as text or as JSON."""
    data = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return [text for text in texts if text and (text if isinstance(text, bytes) else text.encode()) in data]


@pytest.mark.slow
def test_files_are_their_owners_alone(loaded, made, store, tmp_path):
    assert mode(made[0] / "c.db") == "0o600" and mode(made[0]) == mode(made[0].parent) == "0o700"
    begun = sqlite3.connect(made[0] / "c.db", isolation_level=None)
    begun.execute("BEGIN")
    begun.execute("SELECT * FROM memory").fetchone()
    assert {mode(path) for path in made[0].iterdir()} == {"0o600"} and len(list(made[0].iterdir())) == 3
    begun.close()
    manage.export_corrections(loaded, tmp_path / "c.safetensors", store)
    manage.import_corrections(loaded, tmp_path / "c.safetensors", tmp_path / "imported" / "c.db")
    manage.fold_corrections(loaded, tmp_path / "folded", store)
    for path in (tmp_path / "c.safetensors", tmp_path / "imported" / "c.db",
                 tmp_path / "folded" / "adaptation" / "corrections.db"):  # fmt: skip
        assert mode(path) == "0o600"
    for path in (tmp_path / "imported", tmp_path / "folded", tmp_path / "folded" / "adaptation"):
        assert mode(path) == "0o700"


@pytest.mark.slow
@pytest.mark.parametrize("names", [False, True])
def test_exports_and_folds_have_names_and_paths_only_if_asked_for(loaded, made, store, tmp_path, names):
    _, fixed = made
    private = ["author-name", *SPEAKERS, str(fixed[0][0].audio_filepath), str(fixed[0][0].audio_filepath.parent)]
    (tmp_path / "out").mkdir()
    manage.export_corrections(loaded, tmp_path / "out" / "c.safetensors", store, names)
    manage.fold_corrections(loaded, tmp_path / "out" / "folded", store, names)
    adaptation = tmp_path / "out" / "folded" / "adaptation" / "adaptation.json"
    adaptation.unlink()  # it names its base by a path
    assert found(tmp_path / "out", *private) == (private if names else [])
    assert found(tmp_path / "out", fixed[0][2].text)
    # What was exported without names works as before.
    numbers = manage.import_corrections(loaded, tmp_path / "out" / "c.safetensors", tmp_path / "new.db")
    assert numbers == [1, 2, 3, 4]
    with corrected(loaded, str(tmp_path / "new.db")):
        answers = decode_examples(loaded.model, loaded.model.task, [one for one, _, _ in fixed], Loader())
    assert answers == [outcome.text for _, _, outcome in fixed]
    assert ModelMemory.open(loaded, tmp_path / "new.db").correct(fixed[0][0]).number is None


def texts_of(path, number):
    """The corrected text of a correction, if nothing else in the store has the same text."""
    with sqlite3.connect(path) as file:
        (header,) = file.execute("SELECT header FROM memory").fetchone()
        texts = dict(file.execute("SELECT number, facts ->> 'text' FROM corrections"))
    file.close()
    text = texts.pop(number)
    return [] if text in header or text in texts.values() else [text]


def part(blob):
    """Bytes from the middle: those at the start are those of every blob."""
    return blob[len(blob) // 2 : len(blob) // 2 + 32]


def vectors(path):
    """The packed vectors of each correction, and the tensors of the memory, as bytes."""
    with sqlite3.connect(path) as file:
        packed = {number: blob for number, blob in file.execute("SELECT number, tensors FROM corrections")}
        (memory,) = file.execute("SELECT tensors FROM memory").fetchone()
    file.close()
    return packed, memory


@pytest.mark.slow
def test_a_forgotten_speaker_leaves_nothing_in_any_file(loaded, made, store):
    _, fixed = made
    before, memory = vectors(store)
    # An undone correction, a killed process's copy, and a log that was not written back.
    (store.parent / ".c.db.abcd.part").write_bytes(store.read_bytes())
    manage.undo_correction(loaded, 3, store)
    mine = [one for one in fixed if one[1] == SPEAKERS[0]]
    traces = [SPEAKERS[0], *(str(one.audio_filepath) for one, _, _ in mine), *texts_of(store, 1)]
    assert found(store.parent, *traces) == traces
    forgotten = forget(loaded, store, speaker=SPEAKERS[0])
    assert forgotten.numbers == (1,) and forgotten.protected == 1
    assert not found(store.parent, *traces, before[1], before[3], part(before[1]), part(before[3]), part(memory))
    assert sorted(path.name for path in store.parent.iterdir()) == ["c.db"] and mode(store) == "0o600"
    facts = CorrectionStore(store, loaded.fingerprint).facts
    assert facts["examples"] == len(facts["protected"]) + len(facts["others"]) > 10
    assert facts["limits"] != SupportLimits(1e3, 1e3).as_dict()  # calibrated without the speaker
    rest = [one for one in fixed if one[2].number in (2, 4)]
    with corrected(loaded, str(store)):
        answers = decode_examples(loaded.model, loaded.model.task, [one for one, _, _ in rest], Loader())
    assert answers == [outcome.text for *_, outcome in rest]
    assert ModelMemory.open(loaded, store).correct(mine[0][0]).number in (None, 5)  # numbers are not used again


@pytest.mark.slow
def test_a_file_or_a_number_can_be_forgotten(loaded, made, store):
    _, fixed = made
    before, memory = vectors(store)
    example, _, _ = fixed[1]
    texts = texts_of(store, 2)
    assert forget(loaded, store, file=example.audio_filepath).numbers == (2,)
    assert not found(store.parent, str(example.audio_filepath), *texts, part(before[2]))
    assert forget(loaded, store, numbers=[4]).numbers == (4,)
    assert not found(store.parent, str(fixed[3][0].audio_filepath), part(before[4]))
    after, same = vectors(store)
    assert same == memory and after == {1: before[1], 3: before[3]}
    with pytest.raises(InputError, match="no correction 4"):
        forget(loaded, store, numbers=[4])
    with pytest.raises(InputError, match="Nothing in .* is of speaker carl"):
        forget(loaded, store, speaker="carl")


@pytest.mark.slow
def test_forgetting_fails_if_another_process_holds_what_it_would_leave(loaded, store, monkeypatch):
    monkeypatch.setattr("interventions.corrections.database._TIMEOUT", 0.05)
    holder = sqlite3.connect(store, isolation_level=None)
    holder.execute("BEGIN")
    holder.execute("SELECT count(*) FROM corrections").fetchone()
    with pytest.raises(InputError, match="another process is using|database is locked"):
        forget(loaded, store, numbers=[1])
    holder.close()
    forget(loaded, store, numbers=[2])
    assert [record.number for record in manage.list_corrections(loaded, store)] in ([3, 4], [1, 3, 4])


@pytest.mark.slow
def test_too_few_others_cannot_protect(loaded, store):
    with sqlite3.connect(store) as file:
        (header,) = file.execute("SELECT header FROM memory").fetchone()
        header = json.loads(header)
        header["facts"]["protected"], header["facts"]["others"] = header["facts"]["protected"][:2], []
        file.execute("UPDATE memory SET header = ?", (json.dumps(header),))
    file.close()
    with pytest.raises(InputError, match="Nothing was forgotten, because too few protected examples would be left"):
        forget(loaded, store, speaker=header["facts"]["protected"][0]["speaker"])
    assert len(manage.list_corrections(loaded, store)) == 4


def test_the_speaker_of_a_manifest_is_stored(loaded, made):
    rows = [record.facts["example"]["speaker"] for record in manage.list_corrections(loaded, made[0] / "c.db")]
    assert rows == [*SPEAKERS, *SPEAKERS]
