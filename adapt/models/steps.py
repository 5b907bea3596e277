"""The number and the duration of a network's time steps, computed from its sliding windows."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TypeVar

from torch import Tensor, nn

from interventions.sites import Step

Count = TypeVar("Count", int, Tensor)


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window over time: it covers `reach` steps and moves by `stride`, with `padding` steps at each end."""

    reach: int
    stride: int = 1
    padding: int = 0

    def steps(self, count: Count) -> Count:
        """Return the number of output steps for `count` input steps; below 1 if the input is too short."""
        return (count + 2 * self.padding - self.reach) // self.stride + 1


def window(conv: nn.Conv1d) -> Window:
    """Return the window of a convolution."""
    reach = conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
    return Window(reach, conv.stride[0], int(conv.padding[0]))


def steps_after(windows: Iterable[Window], samples: Tensor) -> Tensor:
    """Return the number of steps after these windows, `(batch,)`, of utterances of `samples` samples, `(batch,)`.

    An utterance that is too short for one of the windows has 0 steps, even if a later window pads.
    """
    steps = samples
    for one in windows:
        steps = one.steps(steps).clamp(min=0) * (steps > 0)
    return steps


def min_samples(windows: Iterable[Window]) -> int:
    """Return the minimum number of samples of an utterance that gives one step after these windows."""
    count = 1
    for one in reversed(list(windows)):
        count = max(1, (count - 1) * one.stride + one.reach - 2 * one.padding)
    return count


def step_after(windows: Iterable[Window], sample_rate: int) -> Step:
    """Return the duration of a step after these windows. The first one reads samples at `sample_rate` Hz."""
    return Step(prod(one.stride for one in windows) / sample_rate, "s")
