"""The two scripts of a newcomer, from another working directory. Their first run made the environment we run in."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
READY = ROOT / ".venv" / ".innertune-setup"


def run(script, *arguments, cwd, **env):
    return subprocess.run(
        [ROOT / "scripts" / script, *arguments], capture_output=True, text=True, cwd=cwd, env=os.environ | env
    )


@pytest.mark.skipif(not READY.is_file(), reason="this environment was not made by scripts/setup")
def test_demo(tmp_path):
    pytest.importorskip("espeakng_loader")
    small = ["data.train=4", "data.validation=2", "data.test=3", "data.source_test=3", "trainer.max_epochs=1"]
    done = run("demo", *small, f"output={tmp_path / 'demo'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (
        "WER target",
        "WER source",
        "CER target",
        "weights trained",
        "weights changed",
        "time, s",
        "report.html",
    ):
        assert words in done.stdout
    assert json.loads((tmp_path / "demo" / "metrics.json").read_text())["target"]["after"]["examples"] == 3


@pytest.mark.skipif(not READY.is_file(), reason="this environment was not made by scripts/setup")
def test_test(tmp_path):
    done = run("test", "tests/interventions/test_bits.py", "--collect-only", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_bits.py" in done.stdout


def test_setup_without_a_fitting_python_says_what_it_needs(tmp_path):
    for name in ("scripts/setup", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "cat", "sha256sum", "cut", "env"):
        (tools / tool).symlink_to(shutil.which(tool))
    (tools / "python3").write_text("#!/usr/bin/env bash\n[ \"$1\" = --version ] && echo 'Python 3.9.1'\nexit 1\n")
    (tools / "python3").chmod(0o755)
    done = subprocess.run([tmp_path / "scripts" / "setup"], capture_output=True, text=True, env={"PATH": str(tools)})
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr and "Python 3.9.1" in done.stderr
    assert not (tmp_path / ".venv").exists()
