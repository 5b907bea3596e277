import numpy as np
import pytest
import torch

from adapt.introspect.activity.places import MOST, places_of, responses


def kinds(units, seed=0):
    """Two kinds of units that respond to the opposite."""
    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.arange(units) % 2)
    course = rng.normal(size=12)
    return kind, np.where(kind[:, None] == 1, course, -course) + 0.3 * rng.normal(size=(units, 12))


def alike(places, kind):
    """The share of neighbours in a row that are of one kind."""
    grid = np.full(places.rows * places.columns, -1)
    grid[list(places.cells)] = kind
    grid = grid.reshape(places.rows, places.columns)
    pairs = (grid[:, 1:] >= 0) & (grid[:, :-1] >= 0)
    return float((grid[:, 1:] == grid[:, :-1])[pairs].mean())


@pytest.mark.parametrize("units", [1, 5, 29, 96, 100])
def test_each_unit_has_a_cell_of_its_own(units):
    _, profiles = kinds(units)
    for one in places_of({"low": profiles, "high": profiles[::-1]}).values():
        assert len({*one.cells}) == units and 0 <= min(one.cells) <= max(one.cells) < one.rows * one.columns
        assert not one.pooled
    assert places_of({"low": profiles}) == places_of({"low": profiles})


def test_neighbours_respond_alike_and_at_random_they_do_not():
    kind, profiles = kinds(100)
    (one,) = places_of({"layer": profiles}).values()
    assert alike(one, kind) > 0.8
    (other,) = places_of({"layer": np.random.default_rng(1).normal(size=(100, 12))}).values()
    assert alike(other, kind) < 0.65


def test_learned_grids_stay():
    _, profiles = kinds(4)
    assert places_of({"layer": profiles}, {"layer": [3, 1, 0, 2]})["layer"].cells == (3, 1, 0, 2)
    assert len({*places_of({"layer": profiles}, {"layer": [0, 1]})["layer"].cells}) == 4  # of another width


def test_large_layers_are_pooled_evenly():
    units = MOST + 512
    kind, profiles = kinds(units)
    (one,) = places_of({"layer": profiles}).values()
    counts = np.bincount(one.cells, minlength=MOST)
    assert one.pooled and counts.min() >= 1 and counts.max() <= 2
    values = torch.randn(3, units)
    pooled = one.pool(values)
    cells = torch.tensor(one.cells)
    torch.testing.assert_close(pooled[:, 5], values[:, cells == 5].mean(1))
    together = [kind[np.array(one.cells) == cell] for cell in range(MOST) if counts[cell] == 2]
    assert np.mean([one[0] == one[1] for one in together]) > 0.95


def test_responses_are_standardised_and_short():
    found = responses([torch.randn(100, 3) * 5 + 2, torch.randn(60, 3) * 5 + 2])
    assert found.shape == (3, 64) and abs(found.mean()) < 0.05
    assert responses([torch.randn(3, 4)]).shape == (4, 3)
    assert not responses([torch.ones(5, 2)]).any()
