"""How far along a parting a step is, by what all other folds say of it.

What parts a group from others (`adapt.introspect.bias.divergence`) is a difference for each content. A step is as far along it
as its activation, less the group's mean for its content, times that difference. Were the example itself in the mean and
the difference, one that is far off would draw both towards itself, and lie far along whatever it does: so they are
those of the group without the example's own fold. The sums by fold are there already, and nothing more is stored.

Of noise, an example is then as often back as along. What is left is of the second order: a far example lies in the mean
that the others are held against, which says a K-th, of K folds, of what its own part in the direction said.
"""

import torch
from torch import Tensor

from adapt.introspect.bias.divergence import Parting
from adapt.introspect.bias.sums import ContentSums


class Along:
    """The parting of a group, as it is without any one fold. `places` says which of the contents of `sums` its own are.

    Call it with activations `(steps, units)`, which of its contents each step has `(steps,)`, and the fold that they
    are of; it gives `(steps, units)` in 64 bits. A content that no other fold has says nothing: 0.
    """

    def __init__(self, sums: ContentSums, parting: Parting, group: int) -> None:
        self.places = [sums.contents.index(content) for content in parting.contents]
        own = sums.sums[parting.site.name]
        self._steps, self._activation = own["steps"][group], own["activation"][group]
        self._all_steps = self._steps[:, self.places].sum(0)
        self._total = self._activation[:, self.places].double().sum(0)
        self._others, self._spread = parting.means[1], parting.spread

    def __call__(self, x: Tensor, content: Tensor, fold: int) -> Tensor:
        left = (self._all_steps - self._steps[fold, self.places]).unsqueeze(1)
        mean = (self._total - self._activation[fold, self.places].double()) / left.clamp_min(1)
        direction = torch.where(left > 0, (mean - self._others) / self._spread, 0)
        return (x.double() - mean[content]) * direction[content]
