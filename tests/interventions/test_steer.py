"""A vector is added times its coefficient, and a vector that does not fit is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interventions.scope import StepContext
from interventions.sites import Site
from interventions.steer import Steer

SITE = Site("fc", -1, 6, ())
X = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))


def applied(edit, x=X):
    return edit.at(SITE)(x, StepContext())


@given(st.floats(-4, 4))
def test_a_vector_is_added_times_its_coefficient(coefficient):
    vector = torch.arange(6.0)
    found = applied(Steer(SITE, vector, coefficient))
    torch.testing.assert_close(found, X + coefficient * vector)


@pytest.mark.parametrize("vector", [torch.zeros(5), torch.zeros(2, 5), torch.zeros(1, 2, 6), torch.zeros(())])
def test_a_vector_of_other_units_is_refused(vector):
    with pytest.raises(ValueError, match=r"expected a vector of shape \(6,\) or \(time, 6\)"):
        Steer(SITE, vector)


def test_a_schedule_needs_a_coefficient():
    with pytest.raises(ValueError, match="at least one"):
        Steer(SITE, torch.zeros(6), ())
    assert Steer(SITE, torch.zeros(6), [1, 2]).coefficient == (1.0, 2.0)
