"""Units as detectors: how well the activation of a single unit ranks the rows of a class above the others."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from adapt.introspect.probes.fitted import FittedProbe

_CELLS = 4_000_000  # rows times units that are processed at a time, to limit memory


def average_precision(x: Tensor, labels: Tensor, classes: int) -> FittedProbe:
    """Score each unit by its average precision as a detector of each class.

    Average precision is the mean of the precision at each row of the class, with rows sorted from the highest
    activation to the lowest; rows with equal activations count together. A unit may also detect a class by low
    activations. Scores are normalised so that chance is 0 and a perfect detector is 1, however rare the class.
    The score of a unit is that of the class it detects best. The prediction uses the best unit of each class, and is
    the class whose unit has the highest activation.

    Args:
        x: Standardised activations, `(rows, units)`.
        labels: The class of each row, `(rows,)`.
        classes: Number of classes.
    """
    return _detect(x, labels, classes, partial(_by_class, measure=_average_precision))


def iou(x: Tensor, labels: Tensor, classes: int) -> FittedProbe:
    """Score each unit by intersection over union (Bau et al. 2017, section 2.1; Mu & Andreas 2020, section 2).

    The mask of a unit has as many rows as the class: those with the highest activations, or the lowest. So there is no
    threshold to choose, and a perfect score is possible for a class of any size. The rest is as in `average_precision`.
    """
    return _detect(x, labels, classes, partial(_by_class, measure=_iou))


def _detect(x: Tensor, labels: Tensor, classes: int, score: partial[Tensor]) -> FittedProbe:
    one_hot = torch.nn.functional.one_hot(labels, classes).bool()
    block = max(1, _CELLS // len(x))
    parts = [x[:, unit : unit + block] for unit in range(0, x.shape[1], block)]
    high = torch.cat([score(part, one_hot) for part in parts], dim=1)
    low = torch.cat([score(-part, one_hot) for part in parts], dim=1)
    by_class = torch.maximum(high, low)
    best = by_class.argmax(1)
    sign = torch.where(high >= low, 1.0, -1.0)[torch.arange(classes), best]
    return FittedProbe(by_class.amax(0), by_class, lambda rows: (rows[:, best] * sign).argmax(1))


def _by_class(x: Tensor, one_hot: Tensor, measure: Callable[..., Tensor]) -> Tensor:
    """Return the normalised score of each unit for each class, `(classes, units)`."""
    ordered, order = x.sort(0, descending=True)
    # Rows with equal activations share the rank of the last of them.
    ends = torch.arange(len(x)).unsqueeze(1).expand_as(x).clone()
    ends[:-1][ordered[1:] == ordered[:-1]] = len(x)
    ends = ends.flip(0).cummin(0).values.flip(0)
    scores = []
    for own in one_hot.T:
        hits = own[order].to(torch.float32)
        scores.append(measure(hits, hits.cumsum(0).gather(0, ends), ends + 1, int(own.sum())))
    return torch.stack(scores)


def _average_precision(hits: Tensor, so_far: Tensor, places: Tensor, count: int) -> Tensor:
    chance = count / len(hits)
    return ((so_far / places * hits).sum(0) / count - chance) / (1 - chance)


def _iou(hits: Tensor, so_far: Tensor, places: Tensor, count: int) -> Tensor:
    # The mask includes all rows that are tied at its edge.
    both, mask = so_far[count - 1], places[count - 1]
    share = both / (count + mask - both)
    at_random = mask * count / len(hits)  # expected intersection of a random mask of this size
    chance = at_random / (count + mask - at_random)
    return (share - chance) / (1 - chance)
