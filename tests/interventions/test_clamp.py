"""Clamped neurons keep their bounds, and the others every bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interventions.clamp import Clamp, Scale, Set
from interventions.neurons import Neurons
from interventions.scope import StepContext
from interventions.sites import Site

SITE = Site("fc", -1, 6, ())
X = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
EDITS = {
    "clamp": lambda neurons: Clamp(neurons, -0.3, 0.2),
    "set": lambda neurons: Set(neurons, 1.5),
    "scale": lambda neurons: Scale(neurons, -3.0),
}


def applied(edit, x=X):
    return edit.at(SITE)(x, StepContext())


@pytest.mark.parametrize("kind", EDITS)
@given(units=st.sets(st.integers(0, 5), min_size=1))
def test_other_units_keep_every_bit_and_the_input_is_not_written_into(kind, units):
    kept = X.clone()
    found = applied(EDITS[kind](Neurons({SITE: units})))
    others = [unit for unit in range(6) if unit not in units]
    assert torch.equal(found[..., others], X[..., others]) and torch.equal(X, kept)
    assert found.data_ptr() != X.data_ptr() and found.shape == X.shape
    assert not torch.equal(found[..., list(units)], X[..., list(units)])


@given(st.one_of(st.none(), st.floats(-2, 2)), st.one_of(st.none(), st.floats(-2, 2)))
def test_a_clamp_keeps_its_bounds(low, high):
    neurons = Neurons.every(SITE)
    if (low is None and high is None) or (None not in (low, high) and low > high):
        with pytest.raises(ValueError, match="low <= high"):
            Clamp(neurons, low, high)
        return
    found = applied(Clamp(neurons, low, high))
    inside = ((float("-inf") if low is None else low) <= X) & ((float("inf") if high is None else high) >= X)
    assert torch.equal(found[inside], X[inside])
    bounds = [torch.tensor(bound) for bound in (low, high) if bound is not None]
    assert torch.stack([found == X, *(found == bound for bound in bounds)]).any(0).all()


def test_set_and_scale():
    assert (applied(EDITS["set"](Neurons({SITE: [2]})))[..., 2] == 1.5).all()
    nan = torch.full_like(X, float("nan"))
    assert (applied(Set(Neurons({SITE: [2]}), 2), nan)[..., 2] == 2).all()
    assert torch.equal(applied(EDITS["scale"](Neurons({SITE: [2]})))[..., 2], -3 * X[..., 2])
