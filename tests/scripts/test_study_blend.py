"""The study of blends: its runs, and its means over seeds."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from study_blend import plan, summary  # noqa: E402


def row(seed, way, target, source, factor=1.0):
    wer = {"target": {"before": 0.4, "after": target}, "source": {"before": 0.03, "after": source}}
    return {"target": "en-029", "arm": "full", "seed": seed, "way": way, "factor": factor, "wer": wer}


def test_shares_of_the_gain_and_of_the_forgetting():
    rows = [
        row(0, "off", 0.2, 0.09),
        row(0, "0.8", 0.22, 0.06, 0.8),
        row(1, "off", 0.2, 0.05),
        row(1, "0.8", 0.2, 0.04),
    ]
    rows += [row(0, "random", 0.3, 0.09), row(0, "random", 0.2, 0.03)]
    off, blended, control = summary(rows)
    assert off["% of the gain"] == pytest.approx((100, 0))
    assert blended["WER target"][0] == pytest.approx(21)
    assert blended["% of the gain"][0] == pytest.approx(95)
    assert blended["% of the forgetting"][0] == pytest.approx(50)
    assert blended["seeds"] == 2
    assert control["WER target"][0] == pytest.approx(25)
    assert control["seeds"] == 1


def test_every_arm_runs_with_every_seed():
    names = [run.name for run in plan(["en-029", "de"], ["full", "lora"], 2)]
    assert len(set(names)) == 8
    assert names[0] == "en-029-full-0"
