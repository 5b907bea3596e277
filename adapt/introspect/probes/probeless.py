"""The probeless ranking: units ranked by the differences between class means, without training."""

import torch
from torch import Tensor

from adapt.introspect.probes.fitted import FittedProbe, class_means


def probeless(x: Tensor, labels: Tensor, classes: int) -> FittedProbe:
    """Rank units by their class means (Antverg & Belinkov 2022, section 3.2).

    With the mean `q_z` of class z, the score of a unit is the sum of `|q_z - q_z'|` over all pairs of classes, and its
    score for a class is the sum over the pairs with this class. The predicted class is the one with the nearest mean.
    The activations `x` `(rows, units)` are standardised, so the scale of a unit does not affect its rank.
    """
    means = class_means(x, labels, classes)
    by_class = torch.stack([(means - own).abs().sum(0) for own in means])
    return FittedProbe(by_class.sum(0) / 2, by_class, lambda rows: torch.cdist(rows, means).argmin(1))
