"""A run's folder: it lists what is written there, deletes exactly that, and admits one process at a time."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from adapt import run as runs
from adapt.errors import InputError
from adapt.files import write_text
from adapt.run import check_output, close_run, end_run, open_run
from adapt.run_files import delete, read_list


@pytest.fixture(autouse=True)
def ended():
    yield
    end_run()


def options(folder, **changes):
    return OmegaConf.create({"output": str(folder), "resume": False, "overwrite": False, "seed": 0} | changes)


def tree(folder):
    return {
        f"{path.relative_to(folder)}{'/' if path.is_dir() and not path.is_symlink() else ''}"
        for path in folder.rglob("*")
    }


def write_results(folder, checkpoint="1"):
    """What library code does, which does not know about the list."""
    write_text(folder / "report.html", "page")
    (folder / "checkpoints").mkdir(exist_ok=True)
    with open(folder / "checkpoints" / "last.ckpt", "w") as file:
        file.write(checkpoint)
    (folder / "log" / "version_0").mkdir(parents=True, exist_ok=True)
    (folder / "log" / "version_0" / "metrics.csv").write_text("a,b")


def test_a_finished_run_lists_every_file_and_folder_in_its_card(tmp_path):
    folder = open_run(options(tmp_path / "run"))
    write_results(folder)
    close_run(folder, {}, {"model": "m"})
    write_text(folder / "log" / "late.txt", "written by a logger")
    end_run()
    card = json.loads((folder / "card.json").read_text())
    assert card["model"] == "m" and set(card["files"]) == tree(folder) == set(read_list(folder))
    assert "log/late.txt" in card["files"] and "checkpoints/" in card["files"]


def test_what_is_listed_is_deleted_and_nothing_else(tmp_path):
    folder = tmp_path / "run"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "before.txt").write_text("mine")
    folder = open_run(options(folder))
    write_results(folder)
    close_run(folder, {}, {})
    end_run()
    for name in ("after.txt", "checkpoints/copy.ckpt"):
        (folder / name).write_text("mine")
    open_run(options(folder, overwrite=True))
    assert tree(folder) == {
        "notes/", "notes/before.txt", "after.txt", "checkpoints/", "checkpoints/copy.ckpt", "config.yaml",
        "files.jsonl", ".lock",
    }  # fmt: skip


@pytest.mark.slow
def test_other_programs_files_in_the_runs_folders_are_listed_when_it_ends(tmp_path):
    folder = open_run(options(tmp_path / "run"))
    (folder / "wandb").mkdir()
    subprocess.run(["touch", folder / "wandb" / "core.log"], check=True)
    close_run(folder, {}, {})
    end_run()
    assert "wandb/core.log" in read_list(folder)


def test_a_file_is_listed_before_it_is_created(tmp_path):
    folder = open_run(options(tmp_path / "run"))
    with pytest.raises(FileNotFoundError):
        open(folder / "gone" / "a.txt", "w")  # noqa: SIM115
    assert "gone/a.txt" in read_list(folder) and not (folder / "gone").exists()


def test_only_what_is_written_below_the_folder_is_listed(tmp_path):
    folder = open_run(options(tmp_path / "run"))
    before = read_list(folder)
    (tmp_path / "elsewhere.txt").write_text("x")
    (tmp_path / "run2").mkdir()
    (folder / "config.yaml").read_text()
    assert read_list(folder) == before


@pytest.mark.parametrize("resolved", [False, True])
def test_files_below_a_linked_folder_are_listed_and_deleted_and_the_link_stays(tmp_path, resolved):
    """Lightning writes checkpoints to the resolved path."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "mine.txt").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "disk")
    folder = open_run(options(tmp_path / "run"))
    place = folder / "checkpoints"
    ((place.resolve() if resolved else place) / "last.ckpt").write_text("1")
    assert "checkpoints/last.ckpt" in read_list(folder)
    open_run(options(folder, overwrite=True))
    assert place.is_symlink() and tree(tmp_path / "disk") == {"mine.txt"}


def test_a_folder_that_was_replaced_by_a_link_is_emptied_of_the_runs_files(tmp_path):
    folder = open_run(options(tmp_path / "run"))
    write_results(folder)
    end_run()
    (folder / "checkpoints").rename(tmp_path / "disk")
    (folder / "checkpoints").symlink_to(tmp_path / "disk")
    open_run(options(folder, overwrite=True))
    assert (folder / "checkpoints").is_symlink() and tree(tmp_path / "disk") == set()


def test_what_cannot_be_deleted_is_an_error_and_the_list_stays(tmp_path, monkeypatch):
    folder = open_run(options(tmp_path / "run"))
    write_results(folder)
    end_run()
    unlink = Path.unlink

    def refuse(path, missing_ok=False):
        if path.name == "last.ckpt":
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(InputError, match=r"overwrite=true cannot delete '.*last.ckpt' \(Permission denied\)"):
        open_run(options(folder, overwrite=True))
    assert "checkpoints/last.ckpt" in read_list(folder) and runs._current is None
    monkeypatch.undo()
    open_run(options(folder, overwrite=True))
    assert not (folder / "checkpoints").exists()


def test_a_list_from_elsewhere_deletes_nothing_outside_the_folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    entries = ["../mine.txt", str(tmp_path / "mine.txt"), "a/../../mine.txt", 3, None, ""]
    (tmp_path / "run" / "files.jsonl").write_text("\n".join(map(json.dumps, entries)) + '\n"mine.t')
    assert read_list(tmp_path / "run") == []
    delete(tmp_path / "run", read_list(tmp_path / "run"))
    assert (tmp_path / "mine.txt").exists()


def old_run(folder):
    """A finished run of a version without a list."""
    folder.mkdir()
    (folder / "config.yaml").write_text("output: here\nseed: 0\n")
    (folder / "metrics.json").write_text("{}")
    (folder / "choice.safetensors").write_text("x")
    (folder / "mine.txt").write_text("mine")


def test_a_run_without_a_list_loses_the_files_with_old_names(tmp_path):
    old_run(tmp_path / "run")
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_text("1")
    folder = open_run(options(tmp_path / "run", overwrite=True))
    assert tree(folder) == {"mine.txt", "config.yaml", "files.jsonl", ".lock"}


def test_a_run_without_a_list_and_with_a_linked_folder_is_refused(tmp_path):
    old_run(tmp_path / "run")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "last.ckpt").write_text("1")
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "disk")
    with pytest.raises(InputError, match="'.*checkpoints' is a link, and the run in .* did not list its files"):
        open_run(options(tmp_path / "run", overwrite=True))
    assert (tmp_path / "run" / "metrics.json").exists() and not (tmp_path / "run" / ".lock").exists()


def test_another_runs_checkpoint_is_not_continued(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_text("1")
    for changes in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match="a checkpoint of another run"):
            open_run(options(tmp_path / "run", **changes))


def test_a_resumed_run_keeps_its_list(tmp_path):
    folder = open_run(options(tmp_path / "run"))
    write_results(folder)
    end_run()
    open_run(options(folder, resume=True))
    write_text(folder / "late.txt", "x")
    assert {"checkpoints/last.ckpt", "late.txt"} <= set(read_list(folder))


def test_where_nothing_can_be_resumed_the_run_starts_anew_and_says_so_once(tmp_path, caplog):
    (tmp_path / "adapted").mkdir()
    (tmp_path / "adapted" / "config.yaml").write_text("seed: 0\n")
    mistyped = options(tmp_path / "adpated", resume=True)
    check_output(mistyped)
    open_run(mistyped)
    (said,) = caplog.messages
    assert said == (
        f"Nothing to resume in '{tmp_path / 'adpated'}': the run starts from the beginning. "
        f"'{tmp_path / 'adapted'}' holds an unfinished run."
    )
    end_run()
    caplog.clear()
    check_output(mistyped)  # now there is a run
    check_output(options(tmp_path / "other", resume=True, overwrite=True))
    assert not caplog.messages
    check_output(options(tmp_path / "elsewhere", resume=True))
    assert caplog.messages == [f"Nothing to resume in '{tmp_path / 'elsewhere'}': the run starts from the beginning."]


def test_a_users_file_in_a_killed_run_outlives_its_resume_and_overwriting(tmp_path):
    folder = open_run(options(tmp_path / "run"))
    write_results(folder)
    end_run()
    (folder / "checkpoints" / "notes.txt").write_text("mine")
    open_run(options(folder, resume=True))
    write_text(folder / "checkpoints" / "best.ckpt", "2")
    end_run()
    assert "checkpoints/notes.txt" not in read_list(folder) and "checkpoints/best.ckpt" in read_list(folder)
    open_run(options(folder, overwrite=True))
    assert tree(folder) == {"checkpoints/", "checkpoints/notes.txt", "config.yaml", "files.jsonl", ".lock"}


def test_a_folder_that_is_no_run_keeps_its_files(tmp_path):
    folder = tmp_path / "mine"
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "diary.txt").write_text("mine")
    (folder / "config.yaml").write_text("mine")
    with pytest.raises(InputError, match="'.*config.yaml' is not the file of a run"):
        open_run(options(folder, overwrite=True))
    (folder / "config.yaml").unlink()
    (folder / "report.html").write_text("mine")
    with pytest.raises(InputError, match="'.*report.html' is not from a run, and this run would replace it"):
        check_output(options(folder))
    assert tree(folder) == {"log/", "log/diary.txt", "report.html"}


HOLD = """
import sys, time
from omegaconf import OmegaConf
from adapt.run import open_run
folder = open_run(OmegaConf.create({"output": sys.argv[1], "resume": True, "overwrite": False, "seed": 0}))
(folder / "checkpoints").mkdir(exist_ok=True)
(folder / "checkpoints" / "last.ckpt").write_text("1")
if len(sys.argv) > 2:  # a data loader's worker, which outlives its parent
    import os
    if os.fork():
        time.sleep(60)
print("ready", flush=True)
time.sleep(60)
"""


def hold(folder, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_two_processes_do_not_work_in_one_folder(tmp_path):
    process = hold(tmp_path / "run")
    try:
        for changes in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(InputError, match=f"is in use by process {process.pid} on .*Wait until it ends"):
                open_run(options(tmp_path / "run", **changes))
        with pytest.raises(InputError, match="is in use"):
            check_output(options(tmp_path / "run", overwrite=True))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("worker", [False, True])
def test_after_kill_9_the_folder_is_free_and_its_files_are_known(tmp_path, worker):
    with hold(tmp_path / "run", *(["worker"] if worker else [])) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert "checkpoints/last.ckpt" in read_list(tmp_path / "run")
        folder = open_run(options(tmp_path / "run", overwrite=True))
        assert not (folder / "checkpoints").exists()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_process_that_ended_its_run_leaves_no_lock(tmp_path):
    folder = open_run(options(tmp_path / "run"))
    assert (folder / ".lock").exists()
    open_run(options(tmp_path / "other"))  # the same process goes to another folder
    assert not (folder / ".lock").exists()
    end_run()
    assert not (tmp_path / "other" / ".lock").exists()


@pytest.mark.slow
def test_helping_processes_add_to_the_list_and_need_no_lock(tmp_path):
    folder = open_run(options(tmp_path / "run"))
    code = HOLD.split("if len")[0] + "\nimport adapt.run; adapt.run.end_run()"
    helper = os.environ | {"LOCAL_RANK": "1", "INNERTUNE_RUN": str(folder)}
    subprocess.run([sys.executable, "-c", code, tmp_path / "unused"], env=helper, check=True)
    assert {"checkpoints/", "checkpoints/last.ckpt"} <= set(read_list(folder))
    assert not (tmp_path / "unused").exists()
