"""`scripts/bench_tuning.py` measures what it says, on a small network."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from small_models import marian

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "bench_tuning.py"


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_tuning", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_tuning", module)
    spec.loader.exec_module(module)
    return module


def test_rows_train_exactly_and_a_mask_does_not(bench, capsys):
    tokens = torch.randint(2, 40, (2, 6))
    case = bench.Case("small", marian(), lambda net: net(input_ids=tokens, labels=tokens).loss, "*", 1.0)
    full, mask, rows = bench.measure(case, ["full", "mask", "rows"], 0.2, 3, 0)
    assert (rows.moved, full.moved) == (0, None) and mask.moved > 0
    assert rows.error < 1e-6 and full.to_full == 1 and rows.step_ms > 0
    assert 0.05 < rows.share < 0.25 and rows.state_bytes < 0.3 * full.state_bytes < mask.state_bytes
    bench.show(case, [full, mask, rows])
    assert len(capsys.readouterr().out.splitlines()) == 6
