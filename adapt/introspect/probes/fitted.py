"""A fitted probe, and functions that several kinds of probes use."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A probe that was fitted at one site.

    Attributes:
        scores: How much each unit encodes the target, `(units,)`.
        by_class: How much each unit encodes each class, `(classes, units)`.
        predict: Maps rows `(rows, units)` to their classes `(rows,)`. Rows must be standardised like the training rows.
    """

    scores: Tensor
    by_class: Tensor
    predict: Callable[[Tensor], Tensor]


def class_means(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the mean of the rows `x` `(rows, units)` of each class, `(classes, units)`; `labels` is `(rows,)`."""
    one_hot = torch.nn.functional.one_hot(labels, classes).to(x.dtype)
    return one_hot.T @ x / one_hot.sum(0).unsqueeze(1)


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return a weight for each row, `(rows,)`, such that all classes have the same total weight; they sum to 1."""
    return (1 / (classes * torch.bincount(labels, minlength=classes).double()))[labels]
