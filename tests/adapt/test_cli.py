"""The command line itself."""

import errno
import json
import os
import resource
import shlex
import subprocess
import sys

import pytest
import torch

from adapt.cli import COMMANDS, _refusal, summary
from adapt.commands.show import config_folder, show


def run(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "adapt.cli", *arguments], capture_output=True, text=True, **options)


@pytest.mark.slow
def test_help_names_every_command():
    done = run()
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command:<13}{summary(command)}\n" in done.stdout
        assert len(summary(command).split()) > 1, f"adapt/commands/{command}.py needs a docstring"
    assert done.stdout.endswith("\n")


def test_commands_are_the_modules_of_the_folder():
    assert {"adapt", "show", "corrections"} <= set(COMMANDS) and not any(name.startswith("_") for name in COMMANDS)


@pytest.mark.slow
def test_an_old_option_is_answered_with_its_new_name(tmp_path):
    done = run("steer", "by=speaker", "++unit=true", "-m", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("innertune steer: by is now called group_by. unit is now called unit_length.\n")
    done = run("choose", "per=site", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "innertune choose: per=site is now per_site=true.\n")
    done = run("steer", "+data={by: accent}", "+experiment_of_mine=1", "+by=accent", cwd=tmp_path)
    assert done.returncode == 2 and "by is now called group_by" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_old_option_in_the_users_own_config_is_answered_too(tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("# @package _global_\nby: speaker\n")
    done = run("steer", "--config-dir", "conf", "data=mine", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "innertune steer: by is now called group_by.\n"


@pytest.mark.slow
def test_unknown_commands_and_groups():
    done = run("adopt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no command 'adopt'" in done.stderr and "adapt" in done.stderr
    assert run("show", "nothing").returncode == 2


@pytest.mark.slow
def test_what_must_be_given_is_asked_for():
    done = run("transcribe", "model.pretrained=us-english")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("innertune transcribe: give audio=...") and "Traceback" not in done.stderr


def test_show_lists_every_choice_of_every_group(capsys):
    groups = [folder for folder in sorted(config_folder().iterdir()) if folder.is_dir()]
    assert show([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for folder, line in zip(groups, lines, strict=False):
        choices = sorted(path.stem for path in folder.glob("*.yaml"))
        assert line.split(maxsplit=1) == [folder.name, ", ".join(choices)]
        assert show([folder.name]) == 0
        listed = capsys.readouterr().out.splitlines()
        assert [row.split()[0] for row in listed] == choices and all(len(row.split()) > 1 for row in listed)
    assert len(groups) > 10


@pytest.mark.slow
def test_show_in_a_process_of_its_own():
    assert run("show", "tuning").stdout.splitlines()[0].startswith("auto")


@pytest.mark.slow
def test_several_runs_each_in_a_folder_of_its_own(base, speech, tmp_path):
    done = run(
        "evaluate", "-m", f"model.pretrained={base}", f"data.test={speech['low_test']},{speech['high_test']}",
        f"output={tmp_path / 'runs'}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.parent.name for path in (tmp_path / "runs").glob("*/metrics.json")} == {"0", "1"}


@pytest.mark.slow
def test_multirun_works_as_the_readme_writes_it(speech, tmp_path):
    """`innertune adapt -m tuning=full,head,layers`, on little data and without an output folder."""
    small = [f"train={speech['high_validation']}", f"test={speech['high_test']}", "epochs=1", "causes=0"]
    done = run("adapt", "-m", "tuning=full,head,layers", *small, "compare_neurons=0", "audio_clips=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "outputs" / "adapt").iterdir()
    changed = [json.loads((sweep / str(n) / "metrics.json").read_text())["weights"]["trained"] for n in range(3)]
    assert changed[0] > changed[2] > changed[1] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    assert "epochs=1 stands for trainer.max_epochs=1." in done.stderr and "Traceback" not in done.stderr
    card = json.loads((sweep / "2" / "card.json").read_text())
    assert "tuning=layers" in card["command"] and '"' not in card["command"]


@pytest.mark.slow
def test_a_multirun_says_which_run_failed(base, speech, tmp_path):
    done = run("evaluate", "-m", f"model={base}", f"data.test={speech['high_test']}", "seed=0,-1", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "run 1 (" in done.stderr and "seed=-1): seed must be a whole number" in done.stderr
    assert len(list(tmp_path.rglob("metrics.json"))) == 1


@pytest.mark.slow
def test_a_title_with_anything_in_it_is_kept_when_a_run_is_resumed(speech, tmp_path):
    words = ["adapt", f"train={speech['high_validation']}", f"test={speech['high_test']}", "epochs=1", "output=#1 (a)"]
    words += ["title=It's ${5}, \\${6}", "causes=0", "compare_neurons=0", "audio_clips=0", "tuning=head"]
    assert run(*words, cwd=tmp_path).returncode == 0
    folder = tmp_path / "#1 (a)"
    assert "It&#39;s ${5}, \\${6}" in (folder / "report.html").read_text()
    for name in ("metrics.json", "card.json"):
        (folder / name).unlink()
    done = run(*words, "resume=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = shlex.split(json.loads((folder / "card.json").read_text())["command"])
    assert "title=It's ${5}, \\${6}" in command


@pytest.mark.slow
def test_a_run_leaves_nothing_outside_its_folder(base, speech, tmp_path):
    done = run("evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", "output=here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert not any(path.name.endswith(".part") for path in (tmp_path / "here").rglob("*"))


@pytest.fixture
def small_files():
    """Limit files to 1,000 bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refusal(write, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011 (of each library its own)
        write(*arguments)
    return _refusal(caught.value)


def test_a_full_disk_is_reported_whichever_library_writes(tmp_path, small_files):
    from adapt.files import write_text
    from adapt.training.checkpoints import AtomicCheckpoints
    from interventions.files import write_tensors

    said = os.strerror(errno.EFBIG)
    assert refusal(write_text, tmp_path / "text", "a" * 2000).startswith(said)
    assert refusal(write_tensors, tmp_path / "tensors", "kind", {}, {"a": torch.ones(1000)}).startswith(said)
    checkpoint = {"state_dict": {"a": torch.ones(1000)}}
    assert refusal(AtomicCheckpoints().save_checkpoint, checkpoint, tmp_path / "last.ckpt").startswith(said)
    assert not list(tmp_path.iterdir())
    for other in (ValueError("no space left"), FileNotFoundError(errno.ENOENT, "gone", "a"), RuntimeError()):
        assert _refusal(other) is None


@pytest.mark.slow
def test_what_the_system_refuses_is_reported_without_a_traceback(tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
    done = run("export", "model.pretrained=us-english", "output=plain", cwd=tmp_path, preexec_fn=limit)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"innertune export: {os.strerror(errno.EFBIG)}")
    assert not list(tmp_path.iterdir())
