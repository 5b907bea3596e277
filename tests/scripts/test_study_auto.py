"""The study of tuning=auto: its grid and its table."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "study_auto.py"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("study_auto", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(target, rise, seconds, validation):
    return {"target": target, "rise": rise, "error": target + rise, "seconds": seconds, "validation": validation}


def test_the_table_names_the_best_run_and_the_one_that_validation_chooses(study):
    found = {
        "defaults": result(30, 2, 60, 31), "a": result(20, 1, 60, 30), "b": result(19, 8, 120, 20),
        "auto": result(21, 1, 90, 22),
    }  # fmt: skip
    rows = {row[""]: row for row in study.table(found)}
    assert rows["best of the grid (2 runs): a"]["both"] == "21.0" and rows["auto"]["minutes"] == "1.5"
    assert rows["grid by validation (2 runs): b"]["both"] == "27.0"
    assert rows["grid by validation (2 runs): b"]["minutes"] == "3.0"
    assert study.table({"auto": result(1, 1, 1, 1)})[0][""] == "auto"


def test_the_grid_has_forty_runs_and_begins_with_the_defaults(study):
    grid = study.grid(["accents"])
    assert len(grid) == 40
    assert next(iter(grid.values())) == ["tuning=full", "optimizer.lr=1.000e-03", "blend=off"]


def test_wrong_data_are_refused(study):
    with pytest.raises(SystemExit, match="MODEL TRAIN"):
        study.of_data(["a", "b"])
