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

from adapt.cli import COMMANDS, _plain_text, _refused
from adapt.commands.show import config_folder


def run(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "adapt.cli", *arguments], capture_output=True, text=True, **options)


def test_help_names_every_command():
    done = run()
    assert done.returncode == 0
    assert all(f"\n  {command}" in done.stdout for command in COMMANDS)
    assert done.stdout.endswith("\n")


def test_unknown_commands_and_groups():
    done = run("adopt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no command 'adopt'" in done.stderr and "adapt" in done.stderr
    assert run("show", "nothing").returncode == 2


def test_what_must_be_given_is_asked_for():
    done = run("transcribe", "model.pretrained=us-english")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("innertune transcribe: give audio=...") and "Traceback" not in done.stderr


@given(st.text("ab'\"\\\\,:;={}()[]$#~!? \tß…-1", min_size=1))
@example("It's cold, isn't it?")
@example("a \\' b \\")
def test_a_text_is_taken_as_it_is(text):
    """Whatever signs a sentence has; but what Hydra reads as quoted or a list stays that."""
    if text[0] + text[-1] not in ("''", '""', "[]"):
        assert OverridesParser.create().parse_override(_plain_text(f"text={text}")).value() == text


@pytest.mark.parametrize(
    "option", ["text='a b'", 'text="a, b"', "text=[a,b c]", "text=null", "text=", "file=a,b", "-m"]
)
def test_other_options_are_hydras(option):
    assert _plain_text(option) == option


def test_show_lists_every_option():
    text = run("show").stdout
    for folder in config_folder().iterdir():
        if folder.is_dir():
            assert folder.name in text
            listed = run("show", folder.name).stdout.splitlines() if folder.name == "data" else []
            assert not listed or len(listed) == len(list(folder.glob("*.yaml")))


def test_several_runs_each_in_a_folder_of_its_own(base, speech, tmp_path):
    done = run(
        "evaluate", "-m", f"model.pretrained={base}", f"data.test={speech['low_test']},{speech['high_test']}",
        f"output={tmp_path / 'runs'}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.parent.name for path in (tmp_path / "runs").glob("*/metrics.json")} == {"0", "1"}


def test_a_run_leaves_nothing_outside_its_folder(base, speech, tmp_path):
    done = run("evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", "output=here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert not any(path.name.endswith(".part") for path in (tmp_path / "here").rglob("*"))


@pytest.fixture
def small_files():
    """Files may have 1,000 bytes, as if the disk were full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refused(write, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011 (of each library its own)
        write(*arguments)
    return _refused(caught.value)


def test_a_full_disk_is_told_in_a_sentence_whoever_writes(tmp_path, small_files):
    from adapt.files import write_text
    from adapt.training.fit import _AtomicCheckpoints
    from interventions.files import write_tensors

    said = os.strerror(errno.EFBIG)
    assert refused(write_text, tmp_path / "text", "a" * 2000).startswith(said)
    assert refused(write_tensors, tmp_path / "tensors", "kind", {}, {"a": torch.ones(1000)}).startswith(said)
    checkpoint = {"state_dict": {"a": torch.ones(1000)}}
    assert refused(_AtomicCheckpoints().save_checkpoint, checkpoint, tmp_path / "last.ckpt").startswith(said)
    assert not list(tmp_path.iterdir())
    for other in (ValueError("no space left"), FileNotFoundError(errno.ENOENT, "gone", "a"), RuntimeError()):
        assert _refused(other) is None


def test_what_the_system_refuses_is_no_traceback(tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
    done = run("export", "model.pretrained=us-english", "output=plain", cwd=tmp_path, preexec_fn=limit)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"innertune export: {os.strerror(errno.EFBIG)}")
    assert not list(tmp_path.iterdir())
