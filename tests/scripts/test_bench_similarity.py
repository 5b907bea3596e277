"""`scripts/bench_similarity.py` measures what it says, on a small network and on planted rows."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from small_models import wav2letter

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "bench_similarity.py"


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_similarity", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_similarity", module)
    spec.loader.exec_module(module)
    return module


def test_cka_is_timed_beside_the_bare_passes(bench):
    rows = {row.way: row for row in bench.cka(rounds=2, batches=2, seed=0, seconds=1.0, net=wav2letter())}
    assert set(rows) == {"passes", "passes, again", "passes with CKA", "beyond"}
    assert rows["passes"].ratio == 1 and all(row.seconds > 0 for row in rows.values())
    assert rows["beyond"].seconds < rows["passes with CKA"].seconds


def test_the_peers_learn_what_can_be_learned(bench):
    labels = torch.arange(2400) % 3
    x = torch.randn(2400, 8, generator=torch.Generator().manual_seed(0)) + 4 * torch.eye(3, 8)[labels]
    test = torch.arange(2400) >= 1800
    for answers in (bench._sklearn(x, labels, test), bench._adam(x, labels, test, 3, 0)):
        assert float((answers == labels[test]).double().mean()) > 0.8
