"""The moments at which each neuron is most active in a corpus (maximally activating examples).

    moments = Moments()
    for number, example in enumerate(examples):
        moments.add(number, read_activity(model, example))
    moments.of("net.acoustic_model.conv3", 7)        # the ten strongest of neuron 7

Only peaks count: steps at which a neuron is more active than in the steps beside. So a long sound is one moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.introspect.activity.activity import LayerActivity

EACH = 3  # moments of a neuron that are kept from one example


@dataclass(frozen=True)
class Moment:
    """A moment at which a neuron is active.

    Attributes:
        example: The number of the example.
        value: The activation.
        step: The step at the site.
        start, end: The times at which the step begins and ends, in seconds, or the numbers of the token and the next.
        token: The token of the step; empty for audio.
    """

    example: int
    value: float
    step: int
    start: float
    end: float
    token: str = ""


class Moments:
    """The strongest moments of all neurons, example by example. Memory is for three numbers a neuron and example."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[int, LayerActivity, Tensor, Tensor]]] = {}

    def add(self, example: int, activity: Mapping[str, LayerActivity]) -> None:
        """Add the activity over an example, by the name of the site."""
        for name, layer in activity.items():
            values, steps = _peaks(layer.values)
            kept = LayerActivity(
                layer.layer, layer.site, layer.values[:0], layer.kind, layer.start, layer.length, layer.tokens
            )
            self._found.setdefault(name, []).append((example, kept, values, steps))

    def of(self, site: str, unit: int, count: int = 10) -> list[Moment]:
        """Return the strongest moments of a neuron, the strongest first."""
        moments = [
            _moment(example, layer, float(value), int(step))
            for example, layer, values, steps in self._found.get(site, ())
            for value, step in zip(values[:, unit], steps[:, unit], strict=True)
            if value > -torch.inf
        ]
        return sorted(moments, key=lambda moment: -moment.value)[:count]


def _moment(example: int, layer: LayerActivity, value: float, step: int) -> Moment:
    middle = layer.start + step * layer.length
    half = layer.length / 2 if layer.kind == "seconds" else 0.0
    start, end = (middle - half, middle + half) if half else (middle, middle + 1)
    token = layer.tokens[step] if layer.tokens else ""
    return Moment(example, value, step, max(0.0, start), end, token)


def _peaks(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest peaks of each unit and their steps, `(EACH, units)`; -inf where there are fewer."""
    padded = torch.nn.functional.pad(values.T, (1, 1), value=-torch.inf).T
    before, after = padded[:-2], padded[2:]
    peaks = torch.where((values >= after) & (values > before), values, -torch.inf)
    return peaks.topk(min(EACH, len(values)), dim=0)
