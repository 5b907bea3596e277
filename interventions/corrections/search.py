"""The change of a layer's outputs that one correction needs: the least after which free decoding gives its text.

Least by what the memory's ridge regression has to pay for it (`interventions/corrections/ridge.py`): a change that an
affine map makes by moving little of what is protected, and of what was corrected before, costs little, and so it is
what the search finds. Other inputs that are alike are then changed alike; a change of some frames, whatever makes it,
would carry over to none. What no map can make is left to each step by itself, and to the codebook to keep.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from interventions.intervene import intervene
from interventions.intervention import Intervention
from interventions.sites import Site
from interventions.steer import Steer

_LONGER = 10  # after so many steps they are twice as long, after twice as many three times
_TOUCHED = 0.1  # a step counts as changed from this share of the most changed one's length


@dataclass(frozen=True)
class Search:
    """How the change that a correction needs is looked for.

    Adam, with one second moment for all coordinates (so that it steps in the direction of the gradient), goes at most
    `steps` steps from no change at all, the first ones of length `rate` in units of the layer's usual output (its root
    mean square) and later ones longer, on the loss plus `penalty` times the mean over time of the change's cost, a
    penalty that falls to zero in the end. It stops where free decoding gives the text and the loss, per character or
    token, is at most `margin`.

    `own` is how far each step may change by itself for what it would cost the map to change it by 1. The search starts
    again, up to `rounds` times in all, with a larger `own` where it found nothing, and a smaller margin where the
    memory did not keep what it found.
    """

    steps: int = 80
    rate: float = 0.003
    penalty: float = 0.02
    margin: float = 0.03
    rounds: int = 4
    own: float = 0.3


@dataclass(frozen=True, eq=False)
class EditSubspace:
    """Which changes can be made, and what must be kept for it: with coordinates z `(rank, units)`, `change @ z` is the
    change of a layer's outputs, `kept @ z` what is to be put into the memory; the cost is the square of z.

    Both are `(steps, rank)`, scaled so that coordinates of size 1 make a change of about size 1 at each step.
    """

    change: Tensor
    kept: Tensor

    @classmethod
    def free(cls, steps: int) -> "EditSubspace":
        """Each step may change by itself, whatever its key is."""
        return cls(torch.zeros(steps, 0), torch.zeros(steps, 0)).apart(1.0)

    def apart(self, own: float) -> "EditSubspace":
        """The same, where besides each step may change by itself, whatever its key is, by `own` for coordinates of
        size 1; for that nothing is kept here.
        """
        each = own * torch.eye(len(self.change))
        return EditSubspace(torch.cat([self.change, each], 1), torch.cat([self.kept, torch.zeros_like(each)], 1))


@dataclass(frozen=True, eq=False)
class Change:
    """What was found: `values` `(steps, units)` to add to the layer's output, `kept` `(steps, units)` to put into the
    memory for that, whether decoding is `right` with it, the loss then, and how many gradient `steps` it took.
    """

    values: Tensor
    kept: Tensor
    right: bool
    loss: float
    steps: int

    @property
    def touched(self) -> Tensor:
        """Which time steps it changes, `(steps,)`: those that change by a tenth of the most changed one or more."""
        lengths = self.values.norm(dim=1)
        return (lengths > 0) & (lengths >= _TOUCHED * lengths.max())


@torch.inference_mode(False)
@torch.enable_grad()
def find_change(
    model: nn.Module,
    site: Site,
    reach: EditSubspace,
    size: float,
    loss: Callable[[], Tensor],
    right: Callable[[], bool],
    search: Search,
    on: Sequence[Intervention] = (),
) -> Change:
    """The least change within `reach` of a site's outputs after which free decoding is right.

    `loss` runs the model on one example and gives the loss of the corrected text, `right` decodes it freely and says
    whether that text comes out; both as the model is at that moment, with what `on` does to it and the change on top.
    `size` is that of the site's usual output. Gradients are taken whether or not the caller takes any.
    """
    total, rank = reach.change.shape
    z = torch.zeros(rank, site.units)
    first, second = torch.zeros_like(z), 0.0
    found, value, step = False, float("inf"), 0
    delta = torch.zeros(total, site.units, requires_grad=True)
    with intervene(model, *on, Steer(site, delta, size)):
        for step in range(search.steps + 1):
            now = loss()
            value = float(now.detach())
            if not isfinite(value):
                break
            if value <= search.margin or step == search.steps:
                with torch.no_grad():
                    found = right()
                if found or step == search.steps:
                    break
            (slope,) = torch.autograd.grad(now, delta)
            left = 1 - step / search.steps
            slope = reach.change.T @ slope + 2 * left * search.penalty / total * z
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * float(slope.square().mean())
            length = (second / (1 - 0.999 ** (step + 1))) ** 0.5 + 1e-12
            z = z - search.rate * (1 + step / _LONGER) / (1 - 0.9 ** (step + 1)) / length * first
            with torch.no_grad():
                delta.copy_(reach.change @ z)
    return Change(size * delta.detach(), size * reach.kept @ z, found, value, step)
