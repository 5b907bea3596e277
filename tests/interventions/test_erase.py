"""LEACE leaves nothing linear of a concept, changes no more than it must, and streams."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interventions.erase import Erase, EraseFitter
from interventions.scope import StepContext
from interventions.sites import Site


def site(units):
    return Site("layer", -1, units, ())


def corpus(number=1500, units=12, classes=3, seed=0, support=None):
    """Correlated activations far from zero, in units of unlike scale, whose mean depends on the class."""
    draw = torch.Generator().manual_seed(seed)
    concept = torch.randint(0, classes, (number,), generator=draw)
    support = support or units
    hidden = torch.randn(number, support, generator=draw) + torch.randn(classes, support, generator=draw)[concept]
    rows = hidden @ torch.randn(support, units, generator=draw) * torch.logspace(-1, 1, units) + 3
    return rows, concept


def fitted(rows, concept, classes, pieces=64):
    fitter = EraseFitter(site(rows.shape[1]), classes)
    for part, of in zip(rows.split(pieces), concept.split(pieces), strict=True):
        fitter.update(part, of)
    return fitter.fit()


def erased(erase, rows):
    return erase.at(erase.site)(rows, StepContext())


def left_over(before, after, concept, classes):
    """The greatest covariance of a unit with a class, in standard deviations of the unit before it was edited."""
    one_hot = torch.nn.functional.one_hot(concept, classes).double()
    spread = before.double().std(0, correction=0)
    cross = (after.double() - after.double().mean(0)).T @ (one_hot - one_hot.mean(0)) / len(after)
    return float((cross / torch.where(spread > 0, spread, 1)[:, None]).abs().max())


@settings(max_examples=15)
@given(units=st.integers(1, 16), classes=st.integers(2, 4), seed=st.integers(0, 5))
def test_nothing_linear_is_left(units, classes, seed):
    rows, concept = corpus(units=units, classes=classes, seed=seed)
    erase = fitted(rows, concept, classes)
    assert left_over(rows, rows, concept, classes) > 0.01
    assert left_over(rows, erased(erase, rows.double()), concept, classes) < 1e-10
    assert left_over(rows, erased(erase, rows), concept, classes) < 1e-5
    assert erase.rank == min(classes - 1, units)


def accuracy(rows, concept):
    """Of the linear classifier that least squares gives, on the very rows that it was fitted on."""
    rows = torch.cat([(rows - rows.mean(0)) / rows.std(0), torch.ones(len(rows), 1)], 1).double()
    weights = torch.linalg.pinv(rows, rtol=1e-5) @ concept.double()
    return float(((rows @ weights > 0.5) == concept.bool()).double().mean())


def test_a_linear_classifier_falls_to_chance_and_one_that_is_not_linear_does_not():
    rows, concept = corpus(classes=2, number=3000)
    rows[:, 0] += 40 * (concept == 1) * torch.randn(3000).sign()  # the square of this unit tells the class
    after = erased(fitted(rows, concept, 2), rows)
    chance = max(float((concept == one).double().mean()) for one in (0, 1))
    assert accuracy(rows, concept) > 0.9
    assert accuracy(after, concept) == chance
    assert accuracy(torch.cat([after, after.square()], 1), concept) > 0.9


def test_a_direction_at_right_angles_would_do_it_too_but_change_more():
    """LEACE is the least change of all affine ones that erase; projecting out the class means is another such."""
    rows, concept = corpus(classes=3, number=3000)
    erase = fitted(rows, concept, 3)
    one_hot = torch.nn.functional.one_hot(concept, 3).float()
    centred = rows - rows.mean(0)
    span = torch.linalg.svd(centred.T @ (one_hot - one_hot.mean(0)), full_matrices=False)[0][:, :2]
    orthogonal = rows - centred @ span @ span.T
    assert left_over(rows, orthogonal, concept, 3) < 1e-4
    change = (erased(erase, rows) - rows).square().mean(0)
    other = (orthogonal - rows).square().mean(0)
    assert change.sum() < 0.9 * other.sum()
    # Least in every norm: for each unit alone as well.
    assert (change <= other * (1 + 1e-4)).all()


def test_no_other_erasing_map_near_it_changes_less():
    rows, concept = corpus(classes=2, number=2000, units=6)
    erase = fitted(rows, concept, 2)
    rows = rows.double()
    centred, one_hot = rows - rows.mean(0), torch.nn.functional.one_hot(concept, 2).double()
    cross = centred.T @ (one_hot - one_hot.mean(0)) / len(rows)
    projection = erase.left @ erase.right
    least = float((centred @ projection.T).square().sum())
    # All maps that erase differ from one by what maps the cross-covariance to zero.
    null = torch.eye(6, dtype=torch.float64) - cross @ torch.linalg.pinv(cross)
    for seed in range(20):
        other = projection + 0.05 * torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)).double() @ null
        assert float(((torch.eye(6).double() - other) @ cross).abs().max()) < 1e-4
        assert float((centred @ other.T).square().sum()) > least


def test_the_mean_stays_and_what_is_erased_once_stays_erased():
    rows, concept = corpus()
    erase = fitted(rows, concept, 3)
    once = erased(erase, rows)
    spread = rows.std(0)
    assert ((once.mean(0) - rows.mean(0)).abs() < 1e-4 * spread).all()
    assert ((erased(erase, once) - once).abs() < 1e-4 * spread).all()


@settings(max_examples=10)
@given(pieces=st.integers(1, 400))
def test_streaming_equals_the_batch(pieces):
    rows, concept = corpus(number=400)
    whole, parts = fitted(rows, concept, 3, 400), fitted(rows, concept, 3, pieces)
    torch.testing.assert_close(parts.left @ parts.right, whole.left @ whole.right, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts.mean, whole.mean)


def test_two_processes_gather_what_one_would():
    rows, concept = corpus()
    first, second = EraseFitter(site(12), 3), EraseFitter(site(12), 3)
    first.update(rows[:900], concept[:900])
    second.update(rows[900:], concept[900:])
    first.merge(second)
    whole, merged = fitted(rows, concept, 3, 2000), first.fit()
    torch.testing.assert_close(merged.left @ merged.right, whole.left @ whole.right, atol=1e-5, rtol=1e-5)
    assert first.count == 1500
    with pytest.raises(ValueError, match="Cannot merge.*12 units, 3 classes.*12 units, 4 classes"):
        first.merge(EraseFitter(site(12), 4))


def test_units_that_are_dead_or_depend_on_others_do_no_harm():
    rows, concept = corpus(units=10, support=4)
    rows = torch.cat([rows, torch.full((len(rows), 1), 0.1), rows[:, :1] * 2], 1)
    erase = fitted(rows, concept, 3)
    after = erased(erase, rows)
    assert erase.rank == 2 and left_over(rows, after, concept, 3) < 1e-6
    assert torch.equal(after[:, 10], rows[:, 10])
    assert all(part.isfinite().all() for part in (erase.left, erase.right))


def test_fewer_activations_than_units():
    rows, concept = corpus(number=8, units=12, classes=2)
    after = erased(fitted(rows, concept, 2), rows)
    assert left_over(rows, after, concept, 2) < 1e-4 and after.isfinite().all()


def test_a_concept_that_is_measured_is_erased_too():
    draw = torch.Generator().manual_seed(0)
    pitch = torch.randn(800, 1, generator=draw)
    rows = torch.randn(800, 5, generator=draw) @ torch.randn(5, 5, generator=draw) + pitch * torch.randn(
        5, generator=draw
    )
    after = erased(fitted(rows, pitch, 1), rows)
    before, left = (torch.corrcoef(torch.cat([x, pitch], 1).T.double())[-1, :-1].abs().max() for x in (rows, after))
    assert left < 1e-5 < 0.3 < before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_an_activation_keeps_its_type_and_is_computed_in_float32_at_least(dtype):
    rows, concept = corpus()
    erase = fitted(rows, concept, 3)
    given = rows.to(dtype)
    found = erased(erase, given)
    assert found.dtype == dtype
    wide = given.double() - (given.double() - erase.mean) @ (erase.left @ erase.right).T
    rounding = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float64: 1e-10}[dtype]
    torch.testing.assert_close(found.double(), wide, atol=rounding * float(rows.abs().max()), rtol=rounding)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(erased(erase, given), found)


def test_gradients_flow_through():
    rows, concept = corpus(number=50)
    erase = fitted(rows, concept, 3)
    rows.requires_grad_()
    erased(erase, rows).sum().backward()
    expected = (1 - (erase.left @ erase.right).sum(0)).float()
    torch.testing.assert_close(rows.grad, expected.expand(50, 12), atol=1e-4, rtol=1e-4)


def test_what_was_fitted_and_put_on_in_inference_mode_is_trained_through():
    """As in Lightning, which validates in inference mode before it trains."""
    with torch.inference_mode():
        rows, concept = corpus(number=50)
        erase = fitted(rows, concept, 3)
        edit = erase.at(erase.site)
        edit(rows.bfloat16(), StepContext())
    for dtype in (torch.bfloat16, torch.float32):
        given = torch.randn(4, 12, dtype=dtype, requires_grad=True)
        edit(given, StepContext()).square().sum().backward()
        assert given.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("rows", "concept", "message"),
    [
        (torch.zeros(2, 5), torch.zeros(2).long(), r"\(number, 4\), got \(2, 5\)"),
        (torch.zeros(2, 4), torch.zeros(3).long(), r"a concept of shape \(2,\), with a value for each row, got \(3,\)"),
        (torch.zeros(2, 4), torch.tensor([0, 3]), "from 0 to 2, got 0 to 3"),
        (torch.zeros(2, 4), torch.tensor([-1, 1]), "from 0 to 2, got -1 to 1"),
        (torch.zeros(2, 4), torch.zeros(2, 2), r"\(2, 3\).*got \(2, 2\)"),
        (torch.full((2, 4), float("nan")), torch.tensor([0, 1]), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(rows, concept, message):
    fitter = EraseFitter(site(4), 3)
    with pytest.raises(ValueError, match=message):
        fitter.update(rows, concept)
    assert fitter.count == 0


def test_one_class_is_no_concept():
    fitter = EraseFitter(site(4), 3)
    fitter.update(torch.randn(5, 4), torch.ones(5).long())
    with pytest.raises(ValueError, match="All 5 activations are of one class"):
        fitter.fit()
    with pytest.raises(ValueError, match="at least two vectors"):
        EraseFitter(site(4), 3).fit()
    with pytest.raises(ValueError, match="at least one class"):
        EraseFitter(site(4), 0)


def test_tensors_that_do_not_fit_a_site_are_refused():
    erase = Erase(site(4), torch.zeros(4, 2), torch.zeros(2, 4), torch.zeros(4))
    for wrong in ({"left": torch.zeros(4, 1)}, {"right": torch.zeros(2, 3)}, {"mean": torch.zeros(3)}):
        with pytest.raises(ValueError, match="has 4 units: expected left"):
            replace(erase, **wrong)
