"""The particle swarm of the papers: units with similar responses attract, and units that are too close repel."""

import numpy as np
import torch
from numpy.typing import ArrayLike

from adapt.introspect.topography.grid import framed
from adapt.introspect.topography.triangles import placed
from adapt.introspect.topography.vectors import Array, checked, cosine_distances


def swarm(profiles: ArrayLike, seed: int = 0, start: ArrayLike | None = None, steps: int = 1000) -> Array:
    """Lay out units as the particles of Krug et al. (2023, with the published code).

    From random places, a global force by the cosine distance `D` of profiles,
    `1.5 (1 - (D / max D)^3) - 0.5 exp(-D / 2)`, gradually gives way to a local force by the distance `d` of places,
    `1.5 / (d + 1)^3 - 15 exp(-d / 2)`. From another layout, only the local force acts, which makes the spacing even.
    Time grows with the square of the number of units: 1,000 steps from a layout take 0.4 s for 250 units and 25 s for
    2,000. Memory is two float32 matrices of this size, or three from random places.

    Args:
        profiles: The profiles, `(units, groups)`.
        seed: Seed of the random places.
        start: The initial places, `(units, 2)`; None for random places.
        steps: The number of steps.

    Returns:
        The places, `(units, 2)`.

    Raises:
        ValueError: The profiles cannot be laid out, or `start` has a different number of units.
    """
    values = checked(profiles)
    # The noise separates particles at the same place, on which the same forces would act forever.
    draw = np.random.default_rng(seed)
    first = draw.uniform(size=(len(values), 2)) if start is None else framed(placed(start, len(values)))
    first = first + 1e-6 * draw.normal(size=first.shape)
    places = torch.from_numpy(first - first.mean(0)).float()
    attraction = None if start is not None else _global_force(values)
    distances, force = torch.empty(2, len(values), len(values))
    for gate in np.tanh(np.linspace(-3, 6, steps)).tolist():
        squares = places.square().sum(1)
        torch.addmm(squares[:, None] + squares, places, places.T, alpha=-2, out=distances)
        distances.clamp_(min=1e-8).sqrt_()
        torch.mul(distances, -0.5, out=force).exp_().mul_(-15)
        distances.add_(1).pow_(3).reciprocal_()
        force.add_(distances, alpha=1.5)
        if attraction is not None:  # from all global to all local
            force.mul_((1 + gate) / 2).add_(attraction, alpha=(1 - gate) / 2)
        rate = 0.5 if attraction is not None else (1 + gate) / 4
        places += rate / len(values) * (force @ places - force.sum(1, keepdim=True) * places)
    return framed(places.double().numpy())


def _global_force(values: Array) -> torch.Tensor:
    distances = torch.from_numpy(cosine_distances(values)).float()
    return 1.5 * (1 - (distances / distances.max().clamp_min(1e-12)).pow_(3)) - 0.5 * (distances / -2).exp_()
