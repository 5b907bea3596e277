"""Project steps onto the divergence of a group, estimated from all other folds.

The divergence of a group (`adapt.introspect.bias.divergence`) is a difference for each content. The projection of a
step is its activation minus the group's mean for its content, times that difference. If the example itself were part of
the mean and of the difference, an outlier would pull both towards itself and always have a large projection. So both
are computed from the group without the fold of the example. The sums by fold exist already; nothing else is stored.

The projection of noise is then positive as often as negative. An outlier still affects the mean and the difference that
the examples of other folds are projected with, but this effect is of second order.
"""

import torch
from torch import Tensor

from adapt.introspect.bias.divergence import Divergence
from adapt.introspect.bias.sums import ContentSums


class Projection:
    """The projection onto the divergence of a group without one fold.

    Args:
        sums: The sums from which the divergence was computed.
        divergence: The divergence.
        group: The index of the group.

    `places` are the indices of the divergence's contents among the contents of `sums`.
    """

    def __init__(self, sums: ContentSums, divergence: Divergence, group: int) -> None:
        self.places = [sums.contents.index(content) for content in divergence.contents]
        totals = sums.sums[divergence.site.name]
        self._steps, self._activation = totals["steps"][group], totals["activation"][group]
        self._all_steps = self._steps[:, self.places].sum(0)
        self._total = self._activation[:, self.places].double().sum(0)
        self._reference, self._spread = divergence.means[1], divergence.spread

    def __call__(self, x: Tensor, content: Tensor, fold: int) -> Tensor:
        """Project activations.

        Args:
            x: The activations, `(steps, units)`.
            content: The content of each step, `(steps,)`, as an index into `places`.
            fold: The fold of the steps.

        Returns:
            The projections, `(steps, units)` in 64 bits; 0 for a content that no other fold has.
        """
        left = (self._all_steps - self._steps[fold, self.places]).unsqueeze(1)
        mean = (self._total - self._activation[fold, self.places].double()) / left.clamp_min(1)
        direction = torch.where(left > 0, (mean - self._reference) / self._spread, 0)
        return (x.double() - mean[content]) * direction[content]
