"""`scripts/study_corrections.py` runs all its methods, in a small setting, and says what they did."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "study_corrections.py"


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("study_corrections", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "study_corrections", module)
    spec.loader.exec_module(module)
    return module


def test_every_method_learns_and_what_can_be_taken_back_leaves_nothing(study, monkeypatch, tmp_path, capsys):
    out = tmp_path / "rows.json"
    options = ["--data", "domains", "--corrections", "1", "--test", "2", "--protected", "15", "--json"]
    monkeypatch.setattr(sys, "argv", ["study", *options, str(out)])
    # A sentence of the other domain takes many steps; that it is found is for the study to say.
    monkeypatch.setitem(study.SEARCHES, "token", study.Search(steps=3))
    study.main()
    rows = json.loads(out.read_text())["rows"]
    assert [row["method"] for row in rows] == list(study.methods(0))
    for row in rows:
        assert 0 <= row["kept"] <= 1 and 0 <= row["unchanged"] <= 1 and row["seconds"] > 0
        assert row["undo"] == (None if row["method"] in ("tuning", "replay") else 0)
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)
