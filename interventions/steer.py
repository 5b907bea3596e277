"""Steering: add a vector, multiplied by a coefficient, to the activation of a site."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interventions.affine import Affine
from interventions.intervention import CastLike, Edit, Intervention
from interventions.scope import StepContext
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Steer(Intervention):
    """Add `coefficient * vector` at a site (activation addition: Turner et al. 2023; Rimsky et al. 2024).

    Args:
        site: where to steer.
        vector: `(units,)`, added at every time step, or `(time, units)`, one vector for each position of the sequence;
            later positions are left unchanged. The vector is trained if it requires gradients.
        coefficient: a number, or a schedule: one number for each step of `generate`, starting with the prompt; the last
            number holds for all later steps. A coefficient of 0 is the identity, bit for bit.

    Raises:
        ValueError: If the vector does not fit the site, or the schedule is empty.
    """

    site: Site
    vector: Tensor
    coefficient: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        if self.vector.dim() not in (1, 2) or self.vector.shape[-1] != self.site.units:
            raise ValueError(
                f"'{self.site.name}' has {self.site.units} units: expected a vector of shape ({self.site.units},) or "
                f"(time, {self.site.units}), got {tuple(self.vector.shape)}."
            )
        if isinstance(self.coefficient, (tuple, list)):
            if not self.coefficient:
                raise ValueError("A schedule of coefficients needs at least one, for the prompt.")
            object.__setattr__(self, "coefficient", tuple(float(number) for number in self.coefficient))

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def timed(self) -> bool:
        return self.scope.timed or self.vector.dim() == 2 or isinstance(self.coefficient, tuple)

    def at(self, site: Site) -> Edit:
        vector, coefficient = CastLike(self.vector), self.coefficient
        if not isinstance(coefficient, tuple) and not self.timed and not self.vector.requires_grad:
            delta = CastLike(self.vector if coefficient == 1 else coefficient * self.vector)
            return lambda x, context: x + delta(x) if coefficient else x

        def steer(x: Tensor, context: StepContext) -> Tensor:
            factor = coefficient
            if isinstance(factor, tuple):
                factor = factor[min(context.step, len(factor) - 1)]
            if not factor:
                return x
            if self.vector.dim() == 1:
                return x + factor * vector(x)
            added = vector(x)[context.position : context.position + x.shape[1]]
            if len(added) < x.shape[1]:
                added = torch.cat([added, added.new_zeros(x.shape[1] - len(added), added.shape[1])])
            return x + factor * added

        return steer

    def affine(self, site: Site) -> Affine:
        if self.timed or isinstance(self.coefficient, tuple):
            raise ValueError(
                "Steer cannot be folded: its vector or coefficient depends on the step, but weights do not."
            )
        return Affine(shift=(self.coefficient * self.vector.detach()).double())
