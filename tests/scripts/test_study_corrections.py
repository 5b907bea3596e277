"""`scripts/study_corrections.py` runs all its methods, in a small setting, and says what they did."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

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
    rows = json.loads(out.read_text())
    assert [row["method"] for row in rows] == list(study.methods(0))
    for row in rows:
        assert 0 <= row["kept"] <= 1 and 0 <= row["unchanged"] <= 1 and row["seconds"] > 0
        assert row["undo"] == (None if row["method"] in ("tuning", "replay", "jointly") else 0)
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)


def test_means_are_over_seeds_alone(study):
    measured = dict(fixed=1, kept=1, kept_in_batches=1, new=0, unchanged=1, error_before=0, error_after=0, seconds=1,
                    kilobytes=1, slower=1)  # fmt: skip
    rows = [
        study.Row(site, seed, "ridge", count, same=-0.1 * seed, undo=0.01 * seed, **measured)
        for site in "ab" for seed in (1, 2) for count in (3, 10)
    ]  # fmt: skip
    found = study.means(rows)
    assert [(row.site, row.corrections) for row in found] == [("a", 3), ("a", 10), ("b", 3), ("b", 10)]
    assert all(row.same == pytest.approx(-0.15) and row.undo == 0.02 for row in found)


def test_a_sweep_is_of_the_layers_that_can_hold_corrections(study):
    model = study.load_model("us-english").model
    assert len(study.layers(model, ["all"])) == 11
    assert [layer.site.name[-5:] for layer in study.layers(model, ["*.conv1", "*.conv4"])] == ["conv1", "conv4"]
    assert study.layers(model, None) == [study.correction_layer(model)]
