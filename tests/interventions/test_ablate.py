"""Ablated neurons say nothing of the input, and the others do not notice."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interventions.ablate import Ablate
from interventions.neurons import Neurons
from interventions.scope import StepContext
from interventions.sites import Site

SITE = Site("fc", -1, 6, ())
X = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
UNITS = st.sets(st.integers(0, 5), min_size=1)
ROWS = torch.arange(24.0).reshape(4, 6)
EDITS = {
    "zero": lambda neurons: Ablate(neurons),
    "mean": lambda neurons: Ablate(neurons, "mean", {"fc": ROWS[1]}),
    "resample": lambda neurons: Ablate(neurons, "resample", {"fc": ROWS}),
}


def applied(edit, x=X):
    return edit.at(SITE)(x, StepContext())


@pytest.mark.parametrize("kind", EDITS)
@given(units=UNITS)
def test_other_units_keep_every_bit_and_the_input_is_not_written_into(kind, units):
    kept = X.clone()
    found = applied(EDITS[kind](Neurons({SITE: units})))
    others = [unit for unit in range(6) if unit not in units]
    assert torch.equal(found[..., others], X[..., others]) and torch.equal(X, kept)
    assert found.data_ptr() != X.data_ptr() and found.shape == X.shape
    assert not torch.equal(found[..., list(units)], X[..., list(units)])


@pytest.mark.parametrize("kind", EDITS)
def test_what_is_put_in_does_not_depend_on_the_input(kind):
    edit = EDITS[kind](Neurons({SITE: [1, 4]}))
    nan = torch.full_like(X, float("nan"))
    assert torch.equal(applied(edit)[..., [1, 4]], applied(edit, nan)[..., [1, 4]])


def test_zero_and_mean():
    assert (applied(EDITS["zero"](Neurons({SITE: [2]})))[..., 2] == 0).all()
    assert (applied(EDITS["mean"](Neurons({SITE: [0, 2]})))[..., [0, 2]] == ROWS[1][[0, 2]]).all()


def test_resampled_neurons_of_a_site_come_from_one_row_and_every_row_comes():
    edit = Ablate(Neurons({SITE: [0, 5]}), "resample", {"fc": ROWS}, seed=3)
    many = torch.zeros(4, 1000, 6)
    found = applied(edit, many)
    assert (found[..., 5] - found[..., 0] == 5).all()
    counts = torch.stack([(found[..., 0] == value).sum() for value in ROWS[:, 0]])
    assert int(counts.sum()) == 4000 and (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5
    assert torch.equal(applied(edit, many), found)
    other = Ablate(edit.neurons, "resample", {"fc": ROWS}, seed=4)
    assert not torch.equal(applied(other, many), found)
    at = edit.at(SITE)
    assert not torch.equal(at(many, StepContext()), at(many, StepContext()))  # each call draws anew


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"to": "median"}, "zero, mean, resample"),
        ({"to": "mean"}, "takes a reference"),
        ({"reference": {"fc": ROWS[0]}}, "takes no reference"),
        ({"to": "mean", "reference": {"fc": ROWS}}, r"\(6,\) for 'fc', got \(4, 6\)"),
        ({"to": "mean", "reference": {"other": ROWS[0]}}, "for 'fc', got None"),
        ({"to": "resample", "reference": {"fc": ROWS[0]}}, r"\(rows, 6\)"),
        ({"to": "resample", "reference": {"fc": ROWS[:0]}}, r"\(rows, 6\)"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(how, message):
    with pytest.raises(ValueError, match=message):
        Ablate(Neurons({SITE: [1]}), **how)


def test_a_site_without_ablated_neurons_needs_no_reference():
    other = Site("other", -1, 3, ())
    assert Ablate(Neurons({SITE: [1], other: []}), "mean", {"fc": ROWS[0]}).sites == (SITE,)
