"""Where the ridge map of corrections applies: in what resembles the corrected, and not in what resembles the protected.

Each example is summed up by the mean and the second moments over time of a layer's inputs, which say who speaks, and
how, far better than their mean alone (as in texture and speaker recognition); a linear discriminant (Fisher 1936) of
these parts the corrected from the protected. On an example that is the mean over time of a quadratic function of the
layer's inputs. Only convolutions have a gate: they are given a whole utterance at once, and a decoder is given one
position at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

AXES = 64  # principal components of the inputs; with 32, a tenth fewer are told apart, with all of 96 a few more
LIMIT = 2.3  # standard deviations of protected examples from their mean, beyond which the gate opens
_DOUBT = 10.0  # so many corrections lower that limit by one: few do not say what the corrected is like
_SLOPE = 4.0  # of the gate, a standard deviation: it has no edge that rounding could fall to either side of
_SHRINK = 1.0  # how far the covariance is taken towards its mean variance


@dataclass(frozen=True, eq=False)
class BackgroundStatistics:
    """How protected examples vary: `axes` `(number, inputs)` and `centre` `(number,)` whiten a layer's inputs; an
    example's summary `(size,)`, less `mean` and over `deviation`, is a row; `rows` `(examples, size)` are theirs, in
    float16.
    """

    axes: Tensor
    centre: Tensor
    mean: Tensor
    deviation: Tensor
    rows: Tensor

    @classmethod
    def fit(cls, inputs: Sequence[Tensor], axes: int = AXES) -> "BackgroundStatistics":
        """Args: the layer's inputs `(time, inputs)` in each protected example, at least two."""
        steps = torch.cat([own[_there(own)] for own in inputs]).double()
        mean = steps.mean(0)
        variances, directions = torch.linalg.eigh((steps - mean).T @ (steps - mean) / len(steps))
        variances, directions = variances[-axes:].clamp_min(0), directions[:, -axes:]
        # An input that never varied parts nothing.
        whiten = (directions / (variances + 1e-6 * variances.max() + 1e-12).sqrt()).T
        bare = cls(whiten.float(), (whiten @ mean).float(), torch.zeros(()), torch.ones(()), torch.zeros(()))
        summaries = torch.stack([bare.row(own) for own in inputs])
        deviation = summaries.std(0)
        deviation = deviation + 1e-3 * deviation.mean() + 1e-9
        rows = ((summaries - summaries.mean(0)) / deviation).half()
        return cls(bare.axes, bare.centre, summaries.mean(0), deviation, rows)

    def row(self, inputs: Tensor) -> Tensor:
        """Inputs `(time, inputs)` of one example, summed up: mean and second moments, `(size,)`."""
        own = inputs[_there(inputs)] @ self.axes.T - self.centre
        moments = own.T @ own / max(1, len(own))
        upper = torch.triu_indices(*moments.shape)
        mean = own.sum(0) / max(1, len(own))
        return (torch.cat([mean, moments[upper[0], upper[1]]]) - self.mean) / self.deviation


@dataclass(frozen=True, eq=False)
class Gate:
    """How far it is open for an example: the logistic function of the mean over time of `k' quadratic k + linear k`,
    less `bias`, where k are its whitened inputs (`axes`, `centre`).
    """

    axes: Tensor
    centre: Tensor
    quadratic: Tensor
    linear: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, usual: BackgroundStatistics, corrected: Sequence[Tensor]) -> "Gate":
        """Between the usual and the rows `(size,)` of the corrected, of which there is one at least."""
        protected, rows = usual.rows.double(), torch.stack(list(corrected)).double()
        middle = rows.mean(0)
        spread = torch.cat([protected / len(protected) ** 0.5, (rows - middle) / (2 * len(rows)) ** 0.5])
        shrink = (_SHRINK * spread.square().sum() / spread.shape[1]).clamp_min(1e-6)  # of examples that are all alike
        # There are more moments than examples: the discriminant is a combination of these.
        gram = spread @ spread.T
        factor = torch.linalg.cholesky(gram + shrink * torch.eye(len(spread), dtype=torch.float64))
        axis = (middle - spread.T @ torch.cholesky_solve((spread @ middle)[:, None], factor)[:, 0]) / shrink
        # A protected example was one of those that the axis was fitted to. Without it, it would lie further out, by
        # N / (N - its leverage).
        leverage = _leverage(gram, len(protected), factor, shrink)
        scores = protected @ axis * len(protected) / (len(protected) - leverage).clamp_min(1.0)
        weight = _SLOPE * axis / scores.std().clamp_min(1e-12)
        bias = _SLOPE * (scores.mean() / scores.std().clamp_min(1e-12) + LIMIT - _DOUBT / len(rows))
        # From a summary's numbers to those of a step's inputs.
        number = len(usual.centre)
        weight, shift = weight / usual.deviation, (weight / usual.deviation) @ usual.mean.double()
        upper = torch.triu_indices(number, number)
        quadratic = torch.zeros(number, number, dtype=torch.float64)
        quadratic[upper[0], upper[1]] = weight[number:]
        return cls(
            usual.axes, usual.centre, ((quadratic + quadratic.T) / 2).float(), weight[:number].float(),
            (bias + shift).float(),
        )  # fmt: skip

    def __call__(self, inputs: Tensor) -> Tensor:
        """How far it is open, 0 to 1, `(batch, 1, 1)`, for inputs `(batch, time, inputs)`.

        Steps whose inputs are all zero are left out, so that padding changes nothing where models mask it.
        """
        there = _there(inputs)
        own = inputs @ self.axes.T - self.centre
        scores = ((own @ self.quadratic + self.linear) * own).sum(-1) * there
        mean = scores.sum(1) / there.sum(1).clamp_min(1)
        return torch.sigmoid(mean - self.bias).view(-1, 1, 1)

    def to(self, device: torch.device) -> "Gate":
        """The same on another device."""
        tensors = (self.axes, self.centre, self.quadratic, self.linear, self.bias)
        return Gate(*(tensor.to(device) for tensor in tensors))


def _there(inputs: Tensor) -> Tensor:
    return inputs.ne(0).any(-1)


def _leverage(gram: Tensor, number: int, factor: Tensor, shrink: Tensor) -> Tensor:
    """`r' M^-1 r` of each of `number` protected rows, which over the root of their number are the first of `spread`:
    `M = spread' spread + shrink`, `gram = spread spread'`, and `factor` is that of `gram + shrink`.
    """
    across = gram[:number] * number**0.5
    inside = torch.cholesky_solve(across.T, factor)
    return (number * gram.diagonal()[:number] - (across * inside.T).sum(1)) / shrink
