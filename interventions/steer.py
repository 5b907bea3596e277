"""Steering: add a vector, times a coefficient, to the activation of a site."""

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

    `vector` is `(units,)`, added to every time step, or `(time, units)`: a vector for each frame or token, by its
    position in the sequence, nothing behind the last. `coefficient` is a number, or a schedule, a number for each step
    of `generate` from the prompt on, the last one for all steps behind. At a coefficient of zero, nothing changes, bit
    for bit. A vector that requires a gradient is trained.

    Raises:
        ValueError: the vector is not of the site's units, or the schedule is empty.
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
        if not self.timed and not self.vector.requires_grad:
            delta = CastLike(self.vector if coefficient == 1 else coefficient * self.vector)
            return lambda x, now: x + delta(x) if coefficient else x

        def steer(x: Tensor, now: StepContext) -> Tensor:
            factor = coefficient[min(now.step, len(coefficient) - 1)] if isinstance(coefficient, tuple) else coefficient
            if not factor:
                return x
            if self.vector.dim() == 1:
                return x + factor * vector(x)
            along = vector(x)[now.position : now.position + x.shape[1]]
            if len(along) < x.shape[1]:  # nothing is added behind the last vector
                along = torch.cat([along, along.new_zeros(x.shape[1] - len(along), along.shape[1])])
            return x + factor * along

        return steer

    def affine(self, site: Site) -> Affine:
        if self.timed:
            raise ValueError(
                "Steer cannot be folded: its vector or coefficient differs from step to step; weights do not."
            )
        return Affine(shift=(self.coefficient * self.vector.detach()).double())
