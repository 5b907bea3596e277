"""The number of steps after a window equals that of a convolution."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from adapt.models.steps import Window, step_after, steps_after, window
from interventions.sites import Step


@given(
    st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 5), st.integers(1, 3)
)  # fmt: skip
def test_steps_are_those_of_a_convolution(count, kernel, stride, padding, dilation):
    conv = nn.Conv1d(1, 1, kernel, stride, padding, dilation)
    steps = window(conv).steps(count)
    if count + 2 * padding >= dilation * (kernel - 1) + 1:
        assert steps == conv(torch.zeros(1, 1, count)).shape[-1]
    else:
        assert steps < 1
    assert steps_after([window(conv)], torch.tensor([count])).tolist() == [max(0, steps)]


def test_an_utterance_shorter_than_a_window_has_no_steps():
    assert steps_after([Window(10), Window(1, padding=3)], torch.tensor([4, 10])).tolist() == [0, 7]


def test_strides_multiply():
    assert step_after([Window(10, 5), Window(3, 2), Window(8)], 1000) == Step(0.01, "s")
    assert step_after([], 8000) == Step(1 / 8000, "s")
