"""Search for the smallest change of a layer's outputs after which free decoding gives the corrected text.

The size of a change is its cost in the memory's ridge regression (`interventions/corrections/ridge.py`). A change is
cheap if an affine map can make it with little effect on protected inputs and on earlier corrections, so the search
prefers changes that generalise to similar inputs. For what no map can achieve, each time step may also change on its
own; the codebook stores these changes.
"""

# Tensor.norm has no annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from interventions.intervene import intervene
from interventions.intervention import Intervention
from interventions.sites import Site
from interventions.steer import Steer

_GROWTH = 10  # after this many steps the step length has doubled, after twice as many it has tripled
_TOUCHED = 0.1  # a time step counts as changed if it changes by at least this share of the largest change


@dataclass(frozen=True)
class Search:
    """Settings of the search for the change that a correction needs.

    Adam, with one second moment for all coordinates (so that it follows the direction of the gradient), minimises the
    loss plus a penalty on the mean cost of the change per time step, which decays to zero. It stops if free decoding
    gives the text and the loss is at most `margin`. If no change is found, the search restarts with a larger
    `residual_scale`; if the memory does not reproduce the change that was found, with a smaller margin.

    Args:
        steps: maximum number of gradient steps.
        rate: length of the first step, in units of the layer's output scale. Later steps are longer.
        penalty: weight of the cost.
        margin: loss per character or token at which to stop.
        rounds: maximum number of searches.
        residual_scale: how far each time step may change on its own at the cost of a change of the map's output by 1.
    """

    steps: int = 80
    rate: float = 0.003
    penalty: float = 0.02
    margin: float = 0.03
    rounds: int = 4
    residual_scale: float = 0.3


@dataclass(frozen=True, eq=False)
class EditSubspace:
    """The possible changes at a layer, as linear functions of coordinates z `(rank, units)`, which cost |z|^2.

    Both maps are scaled so that coordinates of size 1 give changes of about size 1 at each step.

    Args:
        change: `(steps, rank)`; `change @ z` is the change of the layer's outputs.
        targets: `(steps, rank)`; `targets @ z` must be added to the regression targets to get that change.
    """

    change: Tensor
    targets: Tensor

    @classmethod
    def unrestricted(cls, steps: int) -> "EditSubspace":
        """Return the subspace in which each step may change on its own, whatever its key."""
        return cls(torch.zeros(steps, 0), torch.zeros(steps, 0)).with_residuals(1.0)

    def with_residuals(self, scale: float) -> "EditSubspace":
        """Return the subspace in which each step may also change on its own, by `scale` for coordinates of size 1.

        These changes need no regression targets.
        """
        each = scale * torch.eye(len(self.change))
        return EditSubspace(torch.cat([self.change, each], 1), torch.cat([self.targets, torch.zeros_like(each)], 1))


@dataclass(frozen=True, eq=False)
class Change:
    """The result of a search.

    Args:
        values: `(steps, units)`, the change of the layer's outputs.
        targets: `(steps, units)`, what to add to the regression targets.
        correct: whether free decoding gives the text with this change.
        loss: the loss with this change, per character or token.
        steps: number of gradient steps.
    """

    values: Tensor
    targets: Tensor
    correct: bool
    loss: float
    steps: int

    @property
    def touched(self) -> Tensor:
        """The mask `(steps,)` of the time steps that change by at least a tenth of the largest change."""
        lengths = self.values.norm(dim=1)
        return (lengths > 0) & (lengths >= _TOUCHED * lengths.max())


@torch.inference_mode(False)
@torch.enable_grad()
def find_change(
    model: nn.Module,
    site: Site,
    subspace: EditSubspace,
    size: float,
    loss: Callable[[], Tensor],
    is_correct: Callable[[], bool],
    search: Search,
    interventions: Sequence[Intervention] = (),
) -> Change:
    """Find the smallest change of a site's outputs after which free decoding is correct.

    Gradients are computed even if the caller has disabled them.

    Args:
        model: the model.
        site: the layer's output.
        subspace: the possible changes.
        size: scale of the layer's outputs.
        loss: runs the model on one example and returns the loss of the corrected text.
        is_correct: decodes the example freely and returns whether the corrected text results.
        search: settings.
        interventions: further interventions, applied to the model before the change.
    """
    total, rank = subspace.change.shape
    z = torch.zeros(rank, site.units)
    first, second = torch.zeros_like(z), 0.0
    found, value, step = False, float("inf"), 0
    delta = torch.zeros(total, site.units, requires_grad=True)
    with intervene(model, *interventions, Steer(site, delta, size)):
        for step in range(search.steps + 1):
            current = loss()
            value = float(current.detach())
            if not isfinite(value):
                break
            if value <= search.margin or step == search.steps:
                with torch.no_grad():
                    found = is_correct()
                if found or step == search.steps:
                    break
            (slope,) = torch.autograd.grad(current, delta)
            remaining = 1 - step / search.steps
            slope = subspace.change.T @ slope + 2 * remaining * search.penalty / total * z
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * float(slope.square().mean())
            length = (second / (1 - 0.999 ** (step + 1))) ** 0.5 + 1e-12
            z = z - search.rate * (1 + step / _GROWTH) / (1 - 0.9 ** (step + 1)) / length * first
            with torch.no_grad():
                delta.copy_(subspace.change @ z)
    return Change(size * delta.detach(), size * subspace.targets @ z, found, value, step)
