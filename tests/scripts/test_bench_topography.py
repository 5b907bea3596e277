"""`scripts/bench_topography.py` measures what it says, on few units."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "bench_topography.py"


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_topography", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_topography", module)
    spec.loader.exec_module(module)
    return module


def test_profiles_are_the_mean_of_each_letter_less_that_of_all(bench):
    letters = bench.Letters(0)
    net = nn.Sequential(nn.Conv1d(bench.BANDS, 8, 6, 2, 2), nn.ReLU())
    found = bench.profiles_of(net, letters, {"8": 1}, batches=3)["8"]
    assert found.shape == (8, bench.LETTERS) and np.abs(found.mean(1)).max() < 1e-6 and np.abs(found).max() > 0.01
    again = bench.Letters(0)
    acts, said = zip(*(bench.aligned(net(x), own) for x, own in (again.batch(4, 16) for _ in range(3))), strict=True)
    acts, said = torch.cat(acts).transpose(1, 2).flatten(0, 1), torch.cat(said).flatten()
    means = torch.stack([acts[said == letter].mean(0) for letter in range(bench.LETTERS)])
    torch.testing.assert_close(torch.from_numpy(found).float(), (means - means.mean(0)).T.detach())


def test_rows_and_missed_goals(bench, capsys):
    profiles = np.random.default_rng(0).normal(size=(40, 5))
    rows = [bench.measure(name, profiles, 1) for name in ("sorted_grid", "random")]
    assert rows[0].trust > rows[1].trust + 0.2 and rows[0].cpu > 0
    bench.GOALS[40] = {"trust": 0.75, "spacing": 0.2}
    bench.show(rows)
    best, worst = capsys.readouterr().out.splitlines()[-2:]
    assert "*" not in best and worst.count("*") == 1


def test_a_layout_that_is_not_the_same_twice_is_an_error(bench, monkeypatch):
    draw = np.random.default_rng(0)
    monkeypatch.setitem(bench.LAYOUTS, "random", lambda profiles: draw.uniform(size=(len(profiles), 2)))
    with pytest.raises(RuntimeError, match="two maps of the same profiles differ"):
        bench.measure("random", np.ones((20, 3)), 1)


def test_a_learned_map_beside_its_twin(bench, capsys):
    bare, laid = bench.learned([0, 10], 12, 0)
    assert all(own > other + 0.05 for own, other in zip(laid[2], bare[2], strict=True))
    assert [len(values) for values in bare[2:]] == [3, 3] and len(capsys.readouterr().out.splitlines()) == 2
