"""Units as detectors: how well a unit's activation alone ranks the rows of a class above the others."""

from functools import partial

import torch
from torch import Tensor

from adapt.introspect.probes.fitted import Fitted

_CELLS = 4_000_000  # numbers that are held at a time: rows by units


def average_precision(x: Tensor, labels: Tensor, classes: int) -> Fitted:
    """Score each unit of `x` `(rows, units)` by its average precision as a detector of each class.

    That is the mean over the rows of the class, from the highest activation down, of how many of the rows so far are of
    the class; rows with equal activations come together. A unit may also detect by being low. From the precision, the
    share of the class is taken, which chance has, and what is left divided by the most that can be left: 0 is chance,
    1 perfect, in frequent and rare classes alike. A unit's score is that of the class which it detects best. It answers
    with the class whose best unit is most beyond the others', one unit a class.
    """
    return _detect(x, labels, classes, partial(_by_class, measure=_average_precision))


def iou(x: Tensor, labels: Tensor, classes: int) -> Fitted:
    """As `average_precision`, by intersection over union (Bau et al. 2017, section 2.1; Mu & Andreas 2020, section 2).

    A unit's mask is as many of the rows as the class has, those with the highest activations (or the lowest): so there
    is no threshold to choose, and it can be perfect for a class of any size.
    """
    return _detect(x, labels, classes, partial(_by_class, measure=_iou))


def _detect(x: Tensor, labels: Tensor, classes: int, score: partial[Tensor]) -> Fitted:
    of_class = torch.nn.functional.one_hot(labels, classes).bool()
    block = max(1, _CELLS // len(x))
    parts = [x[:, unit : unit + block] for unit in range(0, x.shape[1], block)]
    high = torch.cat([score(part, of_class) for part in parts], dim=1)
    low = torch.cat([score(-part, of_class) for part in parts], dim=1)
    by_class = torch.maximum(high, low)
    best = by_class.argmax(1)
    sign = torch.where(high >= low, 1.0, -1.0)[torch.arange(classes), best]
    return Fitted(by_class.amax(0), by_class, lambda rows: (rows[:, best] * sign).argmax(1))


def _by_class(x: Tensor, of_class: Tensor, measure: object) -> Tensor:
    """`(classes, units)`, with what chance has taken off."""
    ordered, order = x.sort(0, descending=True)
    # A row's place is that of the last of its equals.
    ends = torch.arange(len(x)).unsqueeze(1).expand_as(x).clone()
    ends[:-1][ordered[1:] == ordered[:-1]] = len(x)
    ends = ends.flip(0).cummin(0).values.flip(0)
    found = []
    for own in of_class.T:
        hits = own[order].to(torch.float32)
        found.append(measure(hits, hits.cumsum(0).gather(0, ends), ends + 1, int(own.sum())))
    return torch.stack(found)


def _average_precision(hits: Tensor, so_far: Tensor, places: Tensor, count: int) -> Tensor:
    chance = count / len(hits)
    return ((so_far / places * hits).sum(0) / count - chance) / (1 - chance)


def _iou(hits: Tensor, so_far: Tensor, places: Tensor, count: int) -> Tensor:
    # Of rows that tie at the mask's edge, all are in it.
    both, mask = so_far[count - 1], places[count - 1]
    share = both / (count + mask - both)
    at_random = mask * count / len(hits)  # what a mask as large has of the class on average
    chance = at_random / (count + mask - at_random)
    return (share - chance) / (1 - chance)
