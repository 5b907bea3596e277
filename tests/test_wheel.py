"""What is installed holds all that a checkout has: configs, the report's template, the embedded base."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def test_the_wheel_works_on_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"adapt/conf/{path.relative_to(ROOT / 'conf')}" in names
    assert {"adapt/report/templates/page.html.j2", "adapt/models/embedded/us-english.safetensors"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"adapt", "interventions"}
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); sys.argv[1:] = ['adapt', '--cfg', 'job']\n"
    code += "import adapt.cli; adapt.cli.main(); print(adapt.cli.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "pretrained: us-english" in done.stdout and str(tmp_path / "site") in done.stdout
