import pytest
import torch

from adapt.errors import InputError
from adapt.introspect.weights.row_change import row_change
from adapt.models.wav2letter import wav2letter_small


def test_the_change_of_a_neuron_is_that_of_its_row_and_bias():
    before, after = (wav2letter_small(inner=4, big=4).model for _ in range(2))
    after.load_state_dict(before.state_dict())
    site = before.sites[2]
    with torch.no_grad():
        after.get_parameter(site.rows[0])[1, 0, 0] += 3.0
        after.get_parameter(site.rows[1])[1] += 4.0
        after.get_parameter(site.rows[0])[3, 0, 0] = before.get_parameter(site.rows[0])[3, 0, 0] * 1.0
    changed, same = row_change(before, after, site, 1), row_change(before, after, site, 3)
    assert changed.distance == pytest.approx(5.0, rel=1e-6) and changed.changed == 2 and not changed.equal
    row = torch.cat([before.get_parameter(name)[1].detach().flatten() for name in site.rows])
    assert changed.weights == len(row) == 4 * 7 + 1 and changed.relative == pytest.approx(5.0 / float(row.norm()))
    assert same.equal and same.distance == 0.0
    with torch.no_grad():
        after.get_parameter(site.rows[1])[3] = -0.0  # equal, but not bit by bit
    assert row_change(before, after, site, 3).changed == 1
    with pytest.raises(InputError, match="no neuron 99"):
        row_change(before, after, site, 99)
    with pytest.raises(InputError, match="weights"):
        row_change(before, wav2letter_small(inner=5, big=4).model, site, 1)
