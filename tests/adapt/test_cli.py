"""The command line itself."""

import errno
import os
import resource
import subprocess
import sys

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from adapt.cli import COMMANDS, _quote_text, _refusal, summary
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


@given(st.text("ab'\"\\\\,:;={}()[]$#~!? \tß…-1", min_size=1))
@example("It's cold, isn't it?")
@example("a \\' b \\")
def test_a_text_is_taken_as_it_is(text):
    """Whatever its characters are, unless it is quoted or a list for Hydra."""
    if text[0] + text[-1] not in ("''", '""', "[]"):
        assert OverridesParser.create().parse_override(_quote_text(f"text={text}")).value() == text


@pytest.mark.parametrize(
    "option", ["text='a b'", 'text="a, b"', "text=[a,b c]", "text=null", "text=", "file=a,b", "-m"]
)
def test_other_options_are_hydras(option):
    assert _quote_text(option) == option


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
    assert run("show", "tuning").stdout.splitlines()[0].startswith("bias")


@pytest.mark.slow
def test_several_runs_each_in_a_folder_of_its_own(base, speech, tmp_path):
    done = run(
        "evaluate", "-m", f"model.pretrained={base}", f"data.test={speech['low_test']},{speech['high_test']}",
        f"output={tmp_path / 'runs'}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.parent.name for path in (tmp_path / "runs").glob("*/metrics.json")} == {"0", "1"}


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
    from adapt.training.fit import _AtomicCheckpoints
    from interventions.files import write_tensors

    said = os.strerror(errno.EFBIG)
    assert refusal(write_text, tmp_path / "text", "a" * 2000).startswith(said)
    assert refusal(write_tensors, tmp_path / "tensors", "kind", {}, {"a": torch.ones(1000)}).startswith(said)
    checkpoint = {"state_dict": {"a": torch.ones(1000)}}
    assert refusal(_AtomicCheckpoints().save_checkpoint, checkpoint, tmp_path / "last.ckpt").startswith(said)
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
