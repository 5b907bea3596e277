"""What the README says to type: the Python under "Interventions" runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_interventions_example_runs(tmp_path):
    section = README.read_text(encoding="utf-8").partition("\n## Interventions\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 1, 128])" in done.stdout and (tmp_path / "edits.safetensors").is_file()
