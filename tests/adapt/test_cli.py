"""The command line itself."""

import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from adapt.cli import COMMANDS, _plain_text
from adapt.show import config_folder


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
