"""`scripts/bench_introspection.py` measures what it says, on the embedded models."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "bench_introspection.py"


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_introspection", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_introspection", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["us-english", "weather-en-de"])
def test_equals_the_pass_by_hand(bench, name, monkeypatch):
    monkeypatch.setattr(bench, "captum_ways", lambda case: {})
    case = bench.CASES[name]()
    rows = {row.way: row for row in bench.measure(case, 2, 0)}
    assert set(rows) == {"hand", "hand, again", "profiles"} and rows["hand"].to_hand == 1
    assert rows["profiles"].error <= 1e-5 and rows["profiles"].ms > 0
    assert len(bench.group_names(case.groups)) == bench.GROUPS
