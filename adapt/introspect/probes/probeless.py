"""The probeless ranking: how far apart the means of the classes are at a unit. Nothing is trained."""

import torch
from torch import Tensor

from adapt.introspect.probes.fitted import Fitted, class_means


def probeless(x: Tensor, labels: Tensor, classes: int) -> Fitted:
    """Rank units by their class means (Antverg & Belinkov 2022, section 3.2).

    With the mean `q_z` of class z, a unit's score is the sum of `|q_z - q_z'|` over all pairs of classes, and for a
    class over its pairs with the others. Of standardised activations `x` `(rows, units)`, so that a loud unit does not
    rank higher than a quiet one that tells as much. It answers with the class whose mean is nearest.
    """
    means = class_means(x, labels, classes)
    by_class = torch.stack([(means - own).abs().sum(0) for own in means])
    return Fitted(by_class.sum(0) / 2, by_class, lambda rows: torch.cdist(rows, means).argmin(1))
