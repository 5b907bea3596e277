"""What the README says to type: its Python runs as printed, and its commands have the options that it gives them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

README = Path(__file__).parent.parent / "README.md"


def test_the_interventions_example_runs(tmp_path):
    section = README.read_text(encoding="utf-8").partition("\n## Interventions\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 1, 128])" in done.stdout and (tmp_path / "edits.safetensors").is_file()


def test_the_python_example_runs(tmp_path):
    import numpy as np
    import soundfile

    section = README.read_text(encoding="utf-8").partition("\n## From Python\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.01, 16_000), 16_000)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[") and "<h1" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_command_has_the_options_that_the_readme_gives_it():
    """What is typed is composed, and not run: an option of another name, or of another command, is found.

    `key=...` stands for a value.
    """
    from hydra import compose, initialize_config_dir

    from adapt.commands.show import config_folder

    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for kind, block in blocks if not kind for line in block.replace("\\\n", " ").splitlines()]
    typed = [shlex.split(line, comments=True)[1:] for line in lines if re.match(r"innertune [a-z]+( |$)", line)]
    assert len(typed) > 30
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for command, *options in typed:
            # "key=..." stands for a value, and "-m" runs several, of which the first is composed.
            given = [re.sub(r"=\.\.\.$", "=x", option) for option in options if "=" in option]
            compose(command, [option.split(",")[0] for option in given] if "-m" in options else given)
