"""The comments in `conf/` are the texts of all options, and the help shows them."""

import re
import resource
import subprocess
import sys

import pytest
import yaml

from adapt.cli import COMMANDS
from adapt.errors import InputError
from adapt.option_help import print_help
from adapt.option_texts import Option, command_options, config_folder, examples, group_options, groups, members

CONF = config_folder()
CONFIGURED = sorted(set(COMMANDS) - {"show"})
CHOICES = [(group, name) for group in groups() if group != "experiment" for name, _ in members(group)]


def keys(value, prefix=""):
    """The dotted names of all values in a config, as YAML reads it; names of functions do not count."""
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from keys(inner, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            yield f"{prefix}{key}"


@pytest.mark.parametrize("command", CONFIGURED)
def test_every_option_of_every_command_has_a_text(command):
    options = command_options(command)
    assert [option.name for option in options if len(option.text) < 3] == []
    assert len({option.name for option in options}) == len(options)
    for option in options:
        assert option.default in (*option.choices, "null") or not option.choices, option
        assert not option.text.startswith(("#", " ")) and "\n" not in option.text


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_option_of_every_choice_has_a_text(group, choice):
    options = group_options(group, choice)
    assert [option.name for option in options if len(option.text) < 3] == []
    config = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text())
    own = {f"{group}.{key}" for key in keys(config) if key != "defaults"}
    assert own <= {option.name for option in options}
    assert {option.group for option in options} <= {group} and {option.chosen for option in options} <= {choice}


@pytest.mark.parametrize("command", CONFIGURED)
def test_they_are_hydra_s_options_with_hydra_s_defaults(command):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(command)
    composed = OmegaConf.to_container(cfg)
    options = {option.name: option for option in command_options(command) if "_target_" not in option.name}
    chosen = {name for name in options if "." not in name and name in groups()}
    assert set(keys(composed)) - chosen == set(options) - chosen
    for name, option in options.items():
        if name in chosen:
            continue
        value = composed
        for part in name.split("."):
            value = value[part]
        assert yaml.safe_load(option.default) == value, name


def test_a_chosen_member_and_an_experiment_change_the_options():
    options = {option.name: option for option in command_options("adapt", {"tuning": "neurons"})}
    assert options["tuning"].default == "neurons" and "lora" in options["tuning"].choices
    assert options["tuning.top"] == Option(
        "tuning.top", "0.05", (), "the share (0.05) or number (10) of neurons to choose", "tuning", "neurons"
    )
    options = {option.name: option for option in command_options("adapt", {"experiment": "translation_domain"})}
    assert options["data"].default == "domains" and options["optimizer.lr"].default == "2.0e-3"
    assert (
        options["optimizer.lr"].text.startswith("the highest learning rate; null: the family's own")
        and options["data.target"].default == "clinic"
    )
    assert "us_english" not in options["experiment"].choices  # one of pretrain
    assert options["schedule"].choices == ("constant", "linear", "cosine", "null")
    assert options["resume"].choices == ("true", "false")
    with pytest.raises(InputError, match="There is no tuning=neuron. .* Did you mean neurons?"):
        command_options("adapt", {"tuning": "neuron"})
    with pytest.raises(InputError, match="transcribe has no choice of 'tuning'"):
        command_options("transcribe", {"tuning": "full"})


def test_a_users_own_folder_of_configs_is_read_too(tmp_path):
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "one.yaml").write_text("# the first\na: 'x # y' # the text\n# above,\n# in two lines\nb: 1\n")
    (tmp_path / "job.yaml").write_text(
        "# a job\n# $ innertune job\ndefaults:\n  - thing: one # which thing\n  - _self_\n\nthing: {b: 2}\n"
        "c: null # p|q: the choice\nd: # of the node\n  e: [1, 2] # a list\n"
    )
    assert [(o.name, o.default, o.choices, o.text, o.group) for o in command_options("job", conf=tmp_path)] == [
        ("thing", "one", ("one",), "which thing", "thing"), ("thing.a", "'x # y'", (), "the text", "thing"),
        ("thing.b", "2", (), "above, in two lines", "thing"), ("c", "null", ("p", "q"), "the choice", "general"),
        ("d.e", "[1, 2]", (), "a list", "d"),
    ]  # fmt: skip
    assert examples("job", tmp_path) == ["innertune job"]


@pytest.mark.parametrize("columns", [20, 80, 100, 120, 300])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_the_terminal_and_shows_each_option_once(command, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    print_help(command)
    text = capsys.readouterr().out
    body = [line for line in text.splitlines() if not line.startswith("  innertune ")]
    assert max(map(len, body)) <= min(max(columns, 80), 120)
    assert "Hydra" not in text
    if command == "show":
        return
    assert text.startswith(f"innertune {command}: ")
    assert len(re.findall(rf"^  innertune {command}\b", text, re.M)) == 4  # the form, and three examples
    for option in command_options(command):
        assert len(re.findall(rf"^  {re.escape(option.name)}=", text, re.M)) == 1, option.name
        assert "".join(option.text.split())[:60] in "".join(text.split())


def test_help_on_a_choice_shows_only_its_options(capsys):
    print_help("adapt", ["tuning=neurons", "optimizer.lr=1"])
    text = capsys.readouterr().out
    assert text.startswith("tuning=neurons: train chosen neurons only")
    assert "tuning.top=0.05 " in text and "optimizer" not in text and "general" not in text
    with pytest.raises(InputError, match="no option 'optimizer.l'. Did you mean optimizer.lr?"):
        print_help("adapt", ["optimizer.l=3"])


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "adapt.cli", *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_all_forms_give_the_same_help_at_once():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("adapt", "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    assert done.returncode == 0 and "optimizer.lr=null" in done.stdout
    for form in (("help", "adapt"), ("adapt", "-h"), ("--help", "adapt")):
        assert run(*form).stdout == done.stdout
    chosen = run("adapt", "tuning=neurons", "--help")
    assert chosen.stdout == run("help", "adapt", "tuning=neurons").stdout and "tuning.top" in chosen.stdout
    code = "import sys; sys.argv[1:] = ['adapt', '--help']\nfrom adapt.cli import main; main()\n"
    code += "print(sorted({'torch', 'numpy', 'hydra', 'omegaconf', 'rich'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.endswith("\n[]\n")


@pytest.mark.slow
def test_wrong_names_are_answered_with_the_near_one():
    for arguments, said in (
        (("adopt",), "no command 'adopt'. Did you mean adapt?"), (("help", "stear"), "Did you mean steer?"),
        (("show", "tunning"), "Did you mean tuning?"), (("adapt", "--help", "tuning=lorra"), "Did you mean lora?"),
    ):  # fmt: skip
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "") and said in done.stderr
