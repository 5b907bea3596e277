"""Moments that stream are the moments of the whole, in whatever pieces it comes, also far from zero."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interventions.moments import Moments


def batch_moments(vectors):
    vectors = vectors.double()
    return vectors.mean(0), torch.cov(vectors.T, correction=0)


@given(cuts=st.lists(st.integers(0, 50), max_size=6), seed=st.integers(0, 10))
def test_streaming_equals_the_batch_however_it_is_cut(cuts, seed):
    vectors = torch.randn(50, 4, generator=torch.Generator().manual_seed(seed))
    moments = Moments(4)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 50], strict=True):
        moments.update(vectors[start:stop])
    mean, covariance = batch_moments(vectors)
    assert moments.count == 50
    torch.testing.assert_close(moments.mean, mean)
    torch.testing.assert_close(moments.covariance, covariance)


@given(cut=st.integers(0, 50))
def test_two_halves_merge_into_the_whole_and_the_second_is_left_alone(cut):
    vectors = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    first, second = Moments(3), Moments(3)
    first.update(vectors[:cut])
    second.update(vectors[cut:])
    before = (second.count, second.mean.clone(), second.scatter.clone())
    first.merge(second)
    mean, covariance = batch_moments(vectors)
    torch.testing.assert_close(first.mean, mean)
    torch.testing.assert_close(first.covariance, covariance)
    assert second.count == before[0] and torch.equal(second.mean, before[1]) and torch.equal(second.scatter, before[2])


def test_no_digits_are_lost_far_from_zero():
    """Where the mean is a million times the spread, sums of squares in float64 would leave 4 digits."""
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments(2)
    for part in (noise + 1e8).split(37):
        moments.update(part)
    torch.testing.assert_close(moments.covariance, torch.cov(noise.T, correction=0), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_vectors_of_any_float_type_are_summed_in_float64_without_their_graph(dtype):
    vectors = torch.randn(9, 3).to(dtype).requires_grad_()
    moments = Moments(3)
    moments.update(vectors)
    assert moments.mean.dtype == torch.float64 and not moments.mean.requires_grad
    torch.testing.assert_close(moments.mean, vectors.detach().double().mean(0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(3, 5), r"\(number, 4\), got \(3, 5\)"),
        (torch.zeros(4), "got"),
        (torch.tensor([[0.0, 1.0, float("nan"), 0.0]]), "not finite"),
    ],
)
def test_what_is_refused_leaves_the_sums_alone(wrong, message):
    moments = Moments(4)
    moments.update(torch.ones(2, 4))
    with pytest.raises(ValueError, match=message):
        moments.update(wrong)
    assert moments.count == 2 and torch.equal(moments.mean, torch.ones(4, dtype=torch.float64))


def test_one_vector_has_no_covariance():
    moments = Moments(2)
    moments.update(torch.ones(1, 2))
    with pytest.raises(ValueError, match="at least two vectors, got 1"):
        _ = moments.covariance
