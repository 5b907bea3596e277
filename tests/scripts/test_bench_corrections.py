"""`scripts/bench_corrections.py` times models on which corrections are: as many as it says, in the way that it says."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "bench_corrections.py"


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_corrections", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_corrections", module)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def test_each_way_has_the_corrections_that_it_says(bench):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv1d(6, 5, 1))
    put = {}

    def run(model):
        put[model] = model(torch.ones(1, 4, 9))

    def other(model, number):
        return model(torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(number)))

    rows = bench.measure("net", bench.Case(net, "0", run, other, 8), [1, 3], rounds=2, seed=0)
    assert [row.way for row in rows] == ["none", "1 live", "3 live", "3 folded", "3 folded + codebook"]
    none, one, three, folded, both = (row.keys for row in rows)
    assert none == folded == 0 and 0 < one <= 8 < three <= 24 and both == three
    assert all(row.ratio > 0 for row in rows)
    assert len(put) == 6
    bare = put[next(model for model in put if model is net)]
    assert sum(torch.equal(bare, found) for found in put.values()) == 2  # its own, and none's
