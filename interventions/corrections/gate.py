"""A gate for the ridge map: open for examples like the corrected ones, closed for examples like the protected ones.

Each example is summarised by the mean and the second moments over time of a layer's inputs. These describe the speaker
and the channel much better than the mean alone, as in texture and speaker recognition. A linear discriminant (Fisher
1936) of the summaries separates corrected from protected examples. For one example, this discriminant equals the mean
over time of a quadratic function of the layer's inputs. Only convolutions have a gate, because they run on a whole
utterance at once, while a decoder runs on one position at a time.
"""

# torch.linalg and Tensor.norm have no complete annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

AXES = 64  # principal components of the inputs; 32 detect a tenth fewer corrected examples, all 96 a few more
LIMIT = 2.3  # the gate opens beyond this many standard deviations from the mean score of protected examples
_LENIENCY = 10.0  # LIMIT is lower by one at this number of corrections: few of them describe little
_SLOPE = 4.0  # of the gate, per standard deviation; a hard threshold would be sensitive to rounding
_SHRINK = 1.0  # multiple of the mean variance that is added to the covariance


@dataclass(frozen=True, eq=False)
class BackgroundStatistics:
    """How the summaries of protected examples vary. A row is a summary that is standardised by `mean` and `deviation`.

    Args:
        axes: `(number, inputs)`, the map that together with `centre` whitens a layer's inputs.
        centre: `(number,)`.
        mean: `(size,)`, mean of the summaries.
        deviation: `(size,)`, their standard deviation.
        rows: `(examples, size)` in float16, the rows of the protected examples.
    """

    axes: Tensor
    centre: Tensor
    mean: Tensor
    deviation: Tensor
    rows: Tensor

    @classmethod
    def fit(cls, inputs: Sequence[Tensor], axes: int = AXES) -> "BackgroundStatistics":
        """Fit the statistics to the layer's inputs `(time, inputs)` in each of at least two protected examples."""
        steps = torch.cat([one[_nonzero_steps(one)] for one in inputs]).double()
        mean = steps.mean(0)
        variances, directions = torch.linalg.eigh((steps - mean).T @ (steps - mean) / len(steps))
        variances, directions = variances[-axes:].clamp_min(0), directions[:, -axes:]
        # The added terms keep the results finite for inputs without variance.
        whiten = (directions / (variances + 1e-6 * variances.max() + 1e-12).sqrt()).T
        zero, one = torch.zeros(()), torch.ones(())
        unscaled = cls(whiten.float(), (whiten @ mean).float(), zero, one, zero)
        summaries = torch.stack([unscaled.row(example) for example in inputs])
        deviation = summaries.std(0)
        deviation = deviation + 1e-3 * deviation.mean() + 1e-9
        rows = ((summaries - summaries.mean(0)) / deviation).half()
        return cls(unscaled.axes, unscaled.centre, summaries.mean(0), deviation, rows)

    def row(self, inputs: Tensor) -> Tensor:
        """Return the standardised summary `(size,)` of one example's inputs `(time, inputs)`."""
        whitened = inputs[_nonzero_steps(inputs)] @ self.axes.T - self.centre
        moments = whitened.T @ whitened / max(1, len(whitened))
        upper = torch.triu_indices(*moments.shape)
        mean = whitened.sum(0) / max(1, len(whitened))
        return (torch.cat([mean, moments[upper[0], upper[1]]]) - self.mean) / self.deviation


@dataclass(frozen=True, eq=False)
class Gate:
    """The logistic function of the mean over time of `k' quadratic k + linear k` minus `bias`, for whitened inputs `k`.

    Args:
        axes: `(number, inputs)`, the map that together with `centre` whitens a layer's inputs.
        centre: `(number,)`.
        quadratic: `(number, number)`.
        linear: `(number,)`.
        bias: `()`.
    """

    axes: Tensor
    centre: Tensor
    quadratic: Tensor
    linear: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, background: BackgroundStatistics, corrected: Sequence[Tensor]) -> "Gate":
        """Fit the discriminant between the background and the rows `(size,)` of at least one corrected example."""
        protected, rows = background.rows.double(), torch.stack(list(corrected)).double()
        middle = rows.mean(0)
        spread = torch.cat([protected / len(protected) ** 0.5, (rows - middle) / (2 * len(rows)) ** 0.5])
        shrink = (_SHRINK * spread.square().sum() / spread.shape[1]).clamp_min(1e-6)  # if all examples are equal
        # There are more moments than examples, so the discriminant is a combination of the examples' rows.
        gram = spread @ spread.T
        factor = torch.linalg.cholesky(gram + shrink * torch.eye(len(spread), dtype=torch.float64))
        axis = (middle - spread.T @ torch.cholesky_solve((spread @ middle)[:, None], factor)[:, 0]) / shrink
        # The axis was fitted to the protected examples themselves. Had one been left out of the fit, its score would be
        # larger by the factor N / (N - leverage).
        leverage = _leverage(gram, len(protected), factor, shrink)
        scores = protected @ axis * len(protected) / (len(protected) - leverage).clamp_min(1.0)
        weight = _SLOPE * axis / scores.std().clamp_min(1e-12)
        bias = _SLOPE * (scores.mean() / scores.std().clamp_min(1e-12) + LIMIT - _LENIENCY / len(rows))
        # Convert the weights of the summary's moments to a quadratic function of a time step's inputs.
        number = len(background.centre)
        weight, shift = weight / background.deviation, (weight / background.deviation) @ background.mean.double()
        upper = torch.triu_indices(number, number)
        quadratic = torch.zeros(number, number, dtype=torch.float64)
        quadratic[upper[0], upper[1]] = weight[number:]
        return cls(
            axes=background.axes,
            centre=background.centre,
            quadratic=((quadratic + quadratic.T) / 2).float(),
            linear=weight[:number].float(),
            bias=(bias + shift).float(),
        )

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return how far the gate is open, from 0 to 1, `(batch, 1, 1)`, for inputs `(batch, time, inputs)`.

        Steps whose inputs are all zero are ignored, because models mask their padding.
        """
        valid = _nonzero_steps(inputs)
        whitened = inputs @ self.axes.T - self.centre
        scores = ((whitened @ self.quadratic + self.linear) * whitened).sum(-1) * valid
        mean = scores.sum(1) / valid.sum(1).clamp_min(1)
        return torch.sigmoid(mean - self.bias).view(-1, 1, 1)

    def to(self, device: torch.device) -> "Gate":
        """Return the gate on another device."""
        tensors = (self.axes, self.centre, self.quadratic, self.linear, self.bias)
        return Gate(*(tensor.to(device) for tensor in tensors))


def _nonzero_steps(inputs: Tensor) -> Tensor:
    return inputs.ne(0).any(-1)


def _leverage(gram: Tensor, number: int, factor: Tensor, shrink: Tensor) -> Tensor:
    """Return `r' M^-1 r` for each of the `number` protected rows r, with `M = spread' spread + shrink`.

    Divided by `sqrt(number)`, these are the first rows of `spread`. `gram` is `spread spread'`, and `factor` the
    Cholesky factor of `gram + shrink`.
    """
    products = gram[:number] * number**0.5
    solved = torch.cholesky_solve(products.T, factor)
    return (number * gram.diagonal()[:number] - (products * solved.T).sum(1)) / shrink
