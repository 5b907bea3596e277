"""What every kind of probe gives: a number for each unit, one for each unit and class, and answers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Fitted:
    """A probe at one site.

    `scores` `(units,)` says how much each unit knows of the target, and `by_class` `(classes, units)` of each class.
    `answer` makes of rows `(rows, units)`, standardised as those it was fitted on, the class of each, `(rows,)`.
    """

    scores: Tensor
    by_class: Tensor
    answer: Callable[[Tensor], Tensor]


def class_means(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean `(classes, units)` of the rows `(rows, units)` of each class."""
    of_class = torch.nn.functional.one_hot(labels, classes).to(x.dtype)
    return of_class.T @ x / of_class.sum(0).unsqueeze(1)


def balance(labels: Tensor, classes: int) -> Tensor:
    """A weight for each row, `(rows,)`, that gives all classes the same share; they sum to 1."""
    return (1 / (classes * torch.bincount(labels, minlength=classes).double()))[labels]
