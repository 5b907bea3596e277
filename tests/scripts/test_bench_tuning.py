"""`scripts/bench_tuning.py` measures what it says, on a small network."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import marian

from adapt.models.cut import decoder_cuts, stack_cuts

pytestmark = pytest.mark.slow

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
    encoder, decoder = ([f"net.model.{part}.layers.{n}" for n in range(2)] for part in ("encoder", "decoder"))
    heard = stack_cuts(encoder, None, None, {})
    both = decoder_cuts(heard, stack_cuts(decoder, None, None, {}))
    case = bench.Case(
        "small", marian(), lambda net: net(input_ids=tokens, labels=tokens).loss, "*", ("model.decoder.*",),
        ("model.decoder.layers.1.*",), {"upper": heard[-1], "top 2": both[2]}, bench.goals(9, 9, 9, "upper", 9, 0),
    )  # fmt: skip
    ways = ["full", "mask", "rows", "upper", "upper + cache", "top 2", "top 2 + cache"]
    full, mask, rows, upper, cached, top, above = found = bench.measure(case, ways, 0.2, 3, 0)
    assert (rows.moved, full.moved) == (0, None) and mask.moved > 0
    assert rows.error < 1e-6 and full.to_full == 1 and rows.step_ms > 0
    assert 0.05 < rows.share < 0.25 and rows.state_bytes < 0.3 * full.state_bytes < mask.state_bytes
    for one, other in ((upper, cached), (top, above)):
        assert one.trained == other.trained and one.moved == other.moved == 0
        assert one.error < 1e-6 and other.error < 1e-6
    assert upper.trained < rows.trained
    bench.show(case, [replace(row, peak_mb=1.0) for row in found])
    lines = capsys.readouterr().out.splitlines()
    assert "goal: rows / full at most 9: " in lines[10] and lines[10].endswith("reached")
    assert lines[-1] == "goal: rows at most 0 MB: 1, missed"


def test_memory_is_that_of_a_process_of_its_own():
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import bench_tuning as b; "
    code += "x = b.resident('VmRSS'); y = bytearray(50_000_000); y = None; print(x, b.resident('VmHWM'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, most = map(float, done.stdout.split())
    assert 40 < most - before < 60
