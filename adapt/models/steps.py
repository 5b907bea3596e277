"""How many time steps a network makes of an utterance, and how long each lasts: from the windows that it slides."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TypeVar

from torch import Tensor, nn

from interventions.sites import Step

Count = TypeVar("Count", int, Tensor)


@dataclass(frozen=True, slots=True)
class Window:
    """What slides over time: it reads `reach` steps at once and moves on by `stride`, with `padding` at each end."""

    reach: int
    stride: int = 1
    padding: int = 0

    def steps(self, count: Count) -> Count:
        """How many steps come out where `count` go in, a number or a tensor of them; below 1 where too few do."""
        return (count + 2 * self.padding - self.reach) // self.stride + 1


def window(conv: nn.Conv1d) -> Window:
    """The window that a convolution slides."""
    reach = conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
    return Window(reach, conv.stride[0], int(conv.padding[0]))


def steps_behind(windows: Iterable[Window], samples: Tensor) -> Tensor:
    """How many steps utterances of that many samples have behind these windows, both `(batch,)`.

    None, where an utterance is too short for one of them; padding behind that does not bring it back.
    """
    steps = samples
    for one in windows:
        steps = one.steps(steps).clamp(min=0) * (steps > 0)
    return steps


def samples_for_a_step(windows: Iterable[Window]) -> int:
    """How many samples an utterance needs for one step behind these windows."""
    count = 1
    for one in reversed(list(windows)):
        count = max(1, (count - 1) * one.stride + one.reach - 2 * one.padding)
    return count


def step_behind(windows: Iterable[Window], sample_rate: int) -> Step:
    """What a step lasts behind these windows, the first of which reads samples at `sample_rate` Hz."""
    return Step(prod(one.stride for one in windows) / sample_rate, "s")
