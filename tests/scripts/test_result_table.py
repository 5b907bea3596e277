"""`scripts/result_table.py` writes what the site reads."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # git is a process

ROOT = Path(__file__).parent.parent.parent


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_table_of_a_study_is_one_of_the_site(tmp_path, monkeypatch):
    result_table, site = load(ROOT / "scripts" / "result_table.py"), load(ROOT / "docs" / "_ext" / "results.py")
    path = tmp_path / "table.json"
    monkeypatch.setattr(sys, "argv", ["/x/study_a.py", "--seeds", "3", "--results", str(path), "--rates", "a b"])
    rows = [{"way": "rgn", "wer": {"target": 0.123456, "source": (1.0, None)}}, {"way": "full", "n": 3}]
    result_table.write_table(path, "Does it matter?\n\nMore.", rows, "3 seeds")
    found = site.read_results(path)
    assert found["command"] == "scripts/study_a.py --seeds 3 --rates 'a b'" and found["title"] == "Does it matter?"
    assert found["columns"] == ["way", "wer.target", "wer.source", "n"]
    assert found["rows"] == [["rgn", "0.1235", "1, ", ""], ["full", "", "", "3"]]
    assert found["date"] and "cores" in found["machine"] and "Seeds: 3 seeds." in site.as_markdown(found)
