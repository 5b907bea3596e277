"""Cells of learned maps: units with similar weights become neighbours, and cells are read back from files."""

import math

import pytest
import torch

from adapt.errors import InputError
from adapt.introspect.topography.cells import cells_by_weight, cells_from_text, cells_of_model, cells_to_text
from adapt.introspect.topography.loss import Neighbours


@pytest.mark.parametrize("units", [16, 30, 100])
def test_units_with_similar_weight_directions_become_neighbours(units):
    turn = torch.linspace(0, 2 * math.pi, units + 1)[:-1, None]
    weight = torch.cat([turn.cos(), turn.sin(), 0.3 * torch.ones_like(turn)], 1)
    weight = (weight * torch.rand(units, 1).add(0.1))[torch.randperm(units, generator=torch.Generator().manual_seed(0))]
    cells = cells_by_weight(weight.view(units, 1, 3))
    assert len(set(cells)) == units
    assert Neighbours(units, cells=cells)(weight) > Neighbours(units)(weight) + 0.3
    assert cells_by_weight(weight) == cells


def test_zero_and_equal_weights_have_different_cells():
    for weight in (torch.zeros(10, 4), torch.ones(12, 3, 2), torch.eye(9)):
        cells = cells_by_weight(weight)
        assert len(set(cells)) == len(weight) and min(cells) >= 0


def test_cells_are_read_back():
    cells = {"net.conv3": [3, 0, 1, 2], "net.conv4": list(range(11))}
    assert cells_from_text(cells_to_text(cells), "here") == cells
    assert cells_of_model({"topographic": cells_to_text(cells)}, "here") == cells
    assert cells_of_model({"family": "wav2letter"}, "here") == {}


@pytest.mark.parametrize(
    "stored", ["0 1", {"a": [0, 1]}, {"a": "0 x"}, {"a": ""}, {"a": "0 0"}, {"a": "0 4"}, {"a": "-1 0"}]
)
def test_invalid_cells_are_refused(stored):
    with pytest.raises(InputError, match="'here' does not hold the grid cells"):
        cells_from_text(stored, "here")
