"""The papers' particle swarm: units that respond alike attract each other, and none may come too close to another."""

import numpy as np
import torch
from numpy.typing import ArrayLike

from adapt.introspect.topography.grid import framed
from adapt.introspect.topography.triangles import placed
from adapt.introspect.topography.vectors import Array, checked, cosine_distances


def swarm(profiles: ArrayLike, seed: int = 0, start: ArrayLike | None = None, steps: int = 1000) -> Array:
    """Move the units as the particles of Krug et al. (2023, the code published with it) and return `(units, 2)`.

    From nothing (`start` None: drawn evenly from `seed`), a global force by the cosine distance `D` of the profiles,
    `1.5 (1 - (D / max D)^3) - 0.5 exp(-D / 2)`, gives way to a local one by the distance `d` of the places,
    `1.5 / (d + 1)^3 - 15 exp(-d / 2)`. From another layout, `(units, 2)`, there is the local force alone, which evens
    the spacing out. Each step costs the square of the units: 1,000 of them take 0.4 s for 250 units from a layout, 25 s
    for 2,000, in float32; memory is two float32 matrices, from nothing three.

    Raises:
        ValueError: the profiles cannot be laid out, or the start has not a place for each unit.
    """
    values = checked(profiles)
    # Where exactly alike, two particles would feel the same forces for ever.
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
