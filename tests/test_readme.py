"""The README: its length, and its Python, which runs as printed. `tests/docs/test_snippets.py` runs its commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_is_read_in_one_sitting():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 220 and len(text.encode()) <= 15_000
    assert text.count("![") == 3


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (README.parent / target).exists(), target


@pytest.mark.slow
def test_the_python_example_runs(tmp_path):
    import numpy as np
    import soundfile

    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.01, 16_000), 16_000)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[") and "<h1" in (tmp_path / "report.html").read_text(encoding="utf-8")
