"""Patching puts the right step of another activation in each place, and its own back without a trace."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.scope import StepContext
from interventions.sites import TOKEN, Site, Step

SITE = Site("fc", -1, 2, (), step=Step(0.02, "s"))


def moment(position=0, cached=False):
    now = StepContext()
    now.set(0, position, cached)
    return now


def ramp(steps, batch=1, start=0.0):
    """Activations that say when they were: step n is n + 0.5, the time of its middle in steps."""
    return (start + torch.arange(float(steps)) + 0.5).view(1, steps, 1).expand(batch, steps, 2).contiguous()


def patched(x, activation, now=None, **how):
    patch = Patch(SITE, activation, **how)
    return patch.at(SITE)(x, now or moment())


X = torch.full((3, 6, 2), -1.0)


def test_step_for_step_from_one_example_to_all_or_from_each_to_each():
    assert torch.equal(patched(X, ramp(6)), ramp(6, 3))
    each = torch.randn(3, 6, 2)
    found = patched(X, each)
    assert torch.equal(found, each)
    found.zero_()  # what comes behind may write into it
    assert each.abs().sum() > 0


@pytest.mark.parametrize(
    ("activation", "how", "message"),
    [
        (ramp(5), {}, r"\(3, 6, 2\).*\(1, 5, 2\).*align='time' or 'stretch'"),
        (ramp(7), {}, "align='time' or 'stretch'"),
        (ramp(6, 2), {}, "one for each row of the batch"),
        (torch.zeros(1, 2), {}, "one for each row"),
    ],
)
def test_what_does_not_fit_is_refused(activation, how, message):
    with pytest.raises(ValueError, match=message):
        patched(X, activation, **how)


@pytest.mark.parametrize(
    "how",
    [
        {"align": "words"}, {"resample": "cubic"}, {"activation": torch.zeros(3, 4, 5)}, {"activation": torch.zeros(2)},
        {"neurons": Neurons({Site("other", -1, 2, ()): [0]})}, {"step": Step(0.01, "s")},
        {"align": "stretch", "step": Step(0.01, "s")}, {"align": "time", "step": TOKEN},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(how):
    with pytest.raises(ValueError, match="must be|expected an activation|needs the durations|is only used with align"):
        Patch(**{"site": SITE, "activation": ramp(6), **how})


def test_neurons_are_patched_and_the_others_stay():
    found = patched(X, ramp(6), neurons=Neurons({SITE: [1]}))
    assert torch.equal(found[..., 0], X[..., 0]) and torch.equal(found[..., 1], ramp(6, 3)[..., 1])
    assert Patch(SITE, ramp(6), Neurons({SITE: []})).sites == ()


def test_in_a_generation_each_call_takes_its_part():
    for position in range(5):
        assert torch.equal(patched(X[:, :1], ramp(5), moment(position, True)), ramp(1, 3, float(position)))
    assert torch.equal(patched(X[:, :3], ramp(5), moment(0, True)), ramp(3, 3))
    with pytest.raises(ValueError, match="cannot be replaced by"):
        patched(X[:, :1], ramp(5), moment(5, True))


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.01, 0.02, 0.03, 0.04]),
    st.sampled_from(["nearest", "linear"]),
)
def test_by_time_what_comes_at_a_time_is_what_was_at_that_time(own, there, length, resample):
    """The ramp says the time of each step in its own steps; scaled, in seconds."""
    x, activation = torch.full((2, own, 2), -1.0), ramp(there) * length
    found = patched(x, activation, align="time", step=Step(length, "s"), resample=resample)
    for n in range(own):
        time = (n + 0.5) * 0.02
        inside = time < there * length + 1e-9
        if not inside:
            assert (found[:, n] == -1).all()
        elif resample == "linear":
            expected = min(max(time, 0.5 * length), (there - 0.5) * length)
            torch.testing.assert_close(found[:, n], torch.full((2, 2), expected), atol=1e-6, rtol=1e-5)
        else:
            assert (found[:, n] - time).abs().max() <= 0.5 * length + 1e-6


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(["nearest", "linear"]))
def test_stretched_the_whole_lies_over_the_whole(own, there, resample):
    x = torch.full((2, own, 2), -1.0)
    found = patched(x, ramp(there), align="stretch", resample=resample)[0, :, 0]
    expected = ((torch.arange(own) + 0.5) * there / own).clamp(0.5, there - 0.5)
    assert (found - expected).abs().max() <= (0.5 if resample == "nearest" else 1e-4) + 1e-5
    torch_own = torch.nn.functional.interpolate(ramp(there).transpose(1, 2), size=own, mode="linear")[0, 0]
    if resample == "linear":
        torch.testing.assert_close(found, torch_own, atol=1e-5, rtol=1e-5)
    if own == there:
        assert torch.equal(found, ramp(there)[0, :, 0])


@given(st.sampled_from(["step", "time", "stretch"]), st.sampled_from(["nearest", "linear"]), st.integers(1, 9))
def test_patching_itself_is_the_identity_bit_for_bit(align, resample, steps):
    x = torch.randn(2, steps, 2, generator=torch.Generator().manual_seed(steps))
    x[0, 0, 0] = -0.0
    found = patched(x, x, align=align, resample=resample)
    assert torch.equal(found.view(torch.int32), x.view(torch.int32))


def test_a_generation_goes_along_in_time_and_cannot_be_stretched():
    found = patched(X[:, :1], ramp(3), moment(2, True), align="time")
    assert torch.equal(found, ramp(1, 3, 2.0))
    assert torch.equal(patched(X[:, :1], ramp(3), moment(3, True), align="time"), X[:, :1])
    with pytest.raises(ValueError, match="needs the whole sequence in one call"):
        patched(X[:, :1], ramp(3), moment(2, True), align="stretch")


def test_vectors_without_time_are_patched_too():
    assert torch.equal(patched(torch.zeros(3, 2), torch.ones(1, 2)), torch.ones(3, 2))
    assert torch.equal(patched(X.half(), ramp(6)), ramp(6, 3).half())
