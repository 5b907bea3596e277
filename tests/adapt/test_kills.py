"""Commands that are killed at each place where they touch a file: all is there, or the command can be run again."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
import torch

from adapt.corrections import manage
from adapt.corrections.correct import correct_examples, open_or_create
from adapt.data.pairs import Pair
from adapt.data.synthetic.domains import domains
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.export import export
from adapt.models.model_files import save_model
from adapt.models.swap_files import apply_to_file, remove_from_file
from adapt.training.adapted import Adapted

pytestmark = pytest.mark.slow
_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "sqlite3.connect")
_SURVIVED = 7


def killed_at(number: int, folder: Path, work: Callable[[], object]) -> bool:
    """Run `work` in a copy of this process, killed at its `number`th access of a file below `folder`.

    Returns whether it was killed; False means that it finished before.
    """
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (_SURVIVED, 9), status
        return status == 9
    left = [number]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _EVENTS and str(folder) in str(arguments[0]):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

    try:
        sys.addaudithook(hook)
        replace = os.replace
        sync = os.fsync
        os.fsync = lambda handle: (hook("open", (str(folder),)), sync(handle))[1]  # no event of its own
        os.replace = lambda *given, **more: (hook("open", (str(folder),)), replace(*given, **more))[1]
        work()
        os._exit(_SURVIVED)
    except BaseException as error:  # a failure of the child must not become one of pytest in the child
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)


def every_kill(tmp_path: Path, start: Callable[[Path], None], work: Callable[[Path], object]) -> list[Path]:
    """Kill `work` at each place, each time in a folder of its own that `start` filled.

    Returns one folder for each state in which a kill, or the end, left the files.
    """
    folders: dict[object, Path] = {}
    for number in range(1000):
        folder = tmp_path / f"at-{number}"
        folder.mkdir()
        start(folder)
        killed = killed_at(number, folder, lambda folder=folder: work(folder))
        folders.setdefault(state(folder), folder)
        if not killed:
            return list(folders.values())
    raise AssertionError("no end")


def state(folder: Path) -> object:
    """The names of all files without their random parts, and what each contains; of stores, how large they are."""

    def content(path: Path) -> int:
        if not path.is_file():
            return -1
        return path.stat().st_size if ".db" in path.name else crc32(path.read_bytes())

    names = (
        (re.sub(r"[.][^./]{8}[.]part", ".part", str(path.relative_to(folder))), path) for path in folder.rglob("*")
    )
    return tuple(sorted((name, content(path)) for name, path in names))


@pytest.fixture(scope="module")
def weather():
    return load_model("weather-en-de")


@pytest.fixture(scope="module")
def store(weather, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "c.db"
    protected = domains(train=0, validation=0, test=0, source_test=0, source_train=60).source_train
    memory = open_or_create(weather, protected, path)
    pair = Pair("Will it be foggy tomorrow?", "Ist es morgen neblig?")
    assert correct_examples(memory, [pair], check_protected=False)[0].fixed
    return path


def nothing(folder: Path) -> None:
    """Start with an empty folder."""


def test_fold(weather, store, tmp_path):
    def start(folder):
        shutil.copy(store, folder / "c.db")

    def work(folder):
        return manage.fold_corrections(weather, folder / "folded", folder / "c.db")

    whole = None
    folders = every_kill(tmp_path, start, work)
    assert len(folders) > 5
    for folder in folders:
        if not (folder / "folded" / "adaptation").exists():
            work(folder)
        loaded = load_model(str(folder / "folded"))
        whole = whole or loaded.fingerprint
        assert loaded.fingerprint == whole
        assert len(manage.list_corrections(loaded)) == 1


def test_export_and_import_of_corrections(weather, store, tmp_path):
    def start(folder):
        shutil.copy(store, folder / "c.db")

    def work(folder):
        manage.export_corrections(weather, folder / "c.safetensors", folder / "c.db")
        manage.import_corrections(weather, folder / "c.safetensors", folder / "new.db")

    for folder in every_kill(tmp_path, start, work):
        work(folder)
        assert [record.number for record in manage.list_corrections(weather, folder / "new.db")] == [1]
        assert [record.number for record in manage.list_corrections(weather, folder / "c.db")] == [1]


@pytest.fixture(scope="module")
def tuned(base):
    loaded, other = load_model(str(base)), load_model(str(base))
    with torch.no_grad():
        next(other.model.net.parameters()).add_(0.01)
    return loaded, other.model


def test_adaptations_new_and_in_place_of_another(tuned, tmp_path):
    base, model = tuned
    other = load_model(base.reference).model
    with torch.no_grad():
        next(other.net.parameters()).sub_(0.02)

    def old(folder):
        save_adaptation(folder / "adaptation", base, other)

    def work(folder):
        save_adaptation(folder / "adaptation", base, model)

    for name, start in (("new", nothing), ("old", old)):
        (tmp_path / name).mkdir()
        found = set()
        for folder in every_kill(tmp_path / name, start, work):
            if (folder / "adaptation" / "adaptation.json").exists():
                found.add(load_model(str(folder)).fingerprint)
            work(folder)
            found.add(load_model(str(folder)).fingerprint)
        assert len(found) == (1 if name == "new" else 2)


def test_whole_models_and_exports(tuned, tmp_path):
    _, model = tuned
    for name, work, written in (
        ("model", lambda folder: save_model(folder / "model.safetensors", model), "model.safetensors"),
        ("export", lambda folder: export(model, folder / "out"), "out"),
    ):
        (tmp_path / name).mkdir()
        found = set()
        for folder in every_kill(tmp_path / name, nothing, work):
            if not (folder / written).exists():
                work(folder)
            found.add(load_model(str(folder / written)).fingerprint)
        assert len(found) == 1


def test_apply_and_remove(tuned, tmp_path):
    base, model = tuned

    def start(folder):
        save_adaptation(folder / "adaptation", base, model)
        save_model(folder / "model.safetensors", base.model)

    def work(folder):
        apply_to_file(str(folder / "model.safetensors"), str(folder / "adaptation"))
        remove_from_file(str(folder / "model.safetensors"))

    (tmp_path / "plain").mkdir()
    (tmp_path / "runs").mkdir()
    start(tmp_path / "plain")
    plain = load_model(str(tmp_path / "plain" / "model.safetensors")).fingerprint
    applied = load_model(str(tmp_path / "plain" / "adaptation")).fingerprint
    seen = set()
    for folder in every_kill(tmp_path / "runs", start, work):
        file = folder / "model.safetensors"
        now = load_model(str(file)).fingerprint
        seen.add(now)
        if now == applied:
            remove_from_file(str(file))
        work(folder)
        assert load_model(str(file)).fingerprint == plain
    assert seen == {plain, applied}


def test_what_training_returns_is_saved_whole(tuned, tmp_path):
    base, model = tuned
    loaded = load_model(base.reference)
    adapted = Adapted(base, type(loaded)(model, loaded.reference, "", loaded.header), (), {}, (), {}, {}, [])
    for folder in every_kill(tmp_path, nothing, lambda folder: adapted.save(folder / "a")):
        if not (folder / "a" / "adaptation.json").exists():
            adapted.save(folder / "a")
        load_model(str(folder / "a"))
