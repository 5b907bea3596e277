"""`scripts/study_topographic.py`: its runs are twins, what is done is not done again, its table is right."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from adapt.commands.show import config_folder

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "study_topographic.py"


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("study_topographic", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "study_topographic", module)
    spec.loader.exec_module(module)
    return module


def test_runs_differ_in_strength_or_start_alone(study):
    from hydra import compose, initialize_config_dir

    runs = study.plan([0, 10, 100, 1])
    assert [run.name for run in runs] == ["weights-0", "weights-10", "weights-100", "weights-1", "number-10"]
    assert [run.name for run in study.plan([0])] == ["weights-0"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for command in ("adapt", "pretrain"):
            for run in runs:
                cfg = compose(command, [*run.overrides, "output=x"])
                assert (cfg.topographic.strength, cfg.topographic.start) == (run.strength, run.start)


def test_what_is_finished_is_read_and_told(study, tmp_path):
    rows = []
    for run, wer, moran in zip(study.plan([0, 10]), (0.30, 0.325, 0.35), (0.1, 0.25, 0.2), strict=True):
        sites = {
            "net.conv3": {
                "units": 9,
                "neighbour_cosine": {"before": 0.1, "after": moran},
                "morans_i": {"before": 0.1, "after": moran},
            },
            "net.conv4": {"units": 9, "neighbour_cosine": {"before": 0.0, "after": 0.5}},
        }
        (tmp_path / run.name).mkdir()
        topographic = {"group_by": "phoneme", "examples": 5, "sites": sites}
        said = {"target": {"after": {"wer": wer}}, "topographic": topographic}
        (tmp_path / run.name / "metrics.json").write_text(json.dumps(said))
        rows.append(study.row(run, study.done(run, "adapt", tmp_path, [])))
    table = study.table(rows).splitlines()
    assert table[0] == "|  | 0, weights | 10, weights | 10, number |"
    assert table[2] == "| WER target, % | 30.0 | 32.5 | 35.0 |"
    assert "| Moran's I by phoneme, conv3 | 0.10 → 0.10 | 0.10 → 0.25 | 0.10 → 0.20 |" in table
    assert table[-1] == "| Moran's I by phoneme, conv4 | — | — | — |"
    assert all(line.count("|") == table[0].count("|") for line in table)


def test_a_run_that_fails_stops_the_study(study, tmp_path):
    with pytest.raises(SystemExit, match="weights-0 failed: see "):
        study.done(study.Run(0, "weights"), "adapt", tmp_path, ["nonsense=1"])
    assert "nonsense" in (tmp_path / "weights-0.log").read_text()
