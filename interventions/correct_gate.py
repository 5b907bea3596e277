"""Where the ridge map of corrections applies: in what resembles the corrected, and not in what resembles the protected.

Each example is summed up by the mean and the standard deviation over time of a layer's inputs, and a linear
discriminant (Fisher 1936) parts the corrected ones from the protected ones. Only convolutions have a gate: they are
given a whole utterance at once, and a decoder is given one position at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LIMIT = 2.0  # standard deviations of protected examples from their mean, beyond which the gate opens
_DOUBT = 30.0  # so many corrections lower that limit by one: few do not say what the corrected is like
_SLOPE = 4.0  # of the gate, a standard deviation: it has no edge that rounding could fall to either side of


def summary(inputs: Tensor) -> Tensor:
    """Mean and standard deviation over time of inputs `(batch, time, inputs)`: `(batch, 2 * inputs)`.

    Steps whose inputs are all zero are left out, so that padding changes nothing where models mask it.
    """
    count = inputs.ne(0).any(-1).sum(1).clamp_min(1).unsqueeze(1)
    mean = inputs.sum(1) / count
    variance = inputs.square().sum(1) / count - mean.square()
    return torch.cat([mean, variance.clamp_min(0).sqrt()], 1)


@dataclass(frozen=True, eq=False)
class Usual:
    """How protected examples vary: the `mean` `(size,)` and the `covariance` `(size, size)` of their summaries.

    The covariance is taken towards its diagonal, the more the fewer examples it is of.
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def fit(cls, summaries: Sequence[Tensor]) -> "Usual":
        """Args: the summary `(size,)` of each protected example, at least two."""
        rows = torch.stack(list(summaries)).double()
        mean = rows.mean(0)
        covariance = (rows - mean).T @ (rows - mean) / len(rows)
        own = covariance.diagonal()
        # An input that never varied parts nothing.
        held = own * (rows.shape[1] / len(rows)) + 1e-6 * own.mean() + 1e-12
        return cls(mean.float(), (covariance + torch.diag(held)).float())


@dataclass(frozen=True, eq=False)
class Gate:
    """How far it is open for an example: the logistic function of `weight` `(size,)` times its summary, less `bias`."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, usual: Usual, summaries: Sequence[Tensor]) -> "Gate":
        """Between the usual and the summaries `(size,)` of the corrected, of which there is one at least."""
        rows, mean, covariance = torch.stack(list(summaries)).double(), usual.mean.double(), usual.covariance.double()
        centre = rows.mean(0)
        spread = (rows - centre).T @ (rows - centre) / len(rows)
        axis = torch.linalg.solve(covariance + spread / 2, centre - mean)
        deviation = (axis @ covariance @ axis).sqrt().clamp_min(1e-12)
        weight = _SLOPE * axis / deviation
        return cls(weight.float(), (weight @ mean + _SLOPE * (LIMIT - _DOUBT / len(rows))).float())

    def __call__(self, inputs: Tensor) -> Tensor:
        """How far it is open, 0 to 1, `(batch, 1, 1)`, for inputs `(batch, time, inputs)`."""
        return torch.sigmoid(summary(inputs) @ self.weight - self.bias).view(-1, 1, 1)

    def to(self, device: torch.device) -> "Gate":
        """The same on another device."""
        return Gate(self.weight.to(device), self.bias.to(device))
