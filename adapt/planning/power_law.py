"""A power law with a floor, fitted to a learning curve: error(n) = floor + scale * n^-exponent.

Errors of trained models fall this way with the amount of data (Hestness et al. 2017, arXiv 1712.00409; Rosenfeld et al.
2020, arXiv 1909.12673).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXPONENTS = np.linspace(0.02, 2.0, 100)


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = floor + scale * n^-exponent.

    Attributes:
        floor: The error that no amount of data goes below, 0 or more.
        scale: How far above the floor the error is at n = 1, 0 or more.
        exponent: How fast it falls, above 0.
        residual: The root mean square of the fit's weighted residuals.
    """

    floor: float
    scale: float
    exponent: float
    residual: float

    def __call__(self, size: float) -> float:
        """Return the error at `size`, in the unit of the sizes that the law was fitted to."""
        return self.floor + self.scale * float(size) ** -self.exponent


def fit_power_law(sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """Fit the law by least squares: for each exponent of a grid, floor and scale have a closed form.

    Args:
        sizes: Amounts of data, above 0: minutes or sentences. At least two are different.
        errors: The error at each; lower is better. Several may be at one size.

    Returns:
        The law with the smallest squared error. Two sizes do not determine three numbers: then the floor is 0.
    """
    if len(set(sizes)) < 2 or min(sizes) <= 0:
        raise ValueError(f"A power law needs two different sizes above 0; got {sorted(set(sizes))}.")
    size, error = np.asarray(sizes, dtype=float), np.asarray(errors, dtype=float)
    unit = size.max()  # so that powers of large numbers stay near 1
    power = (size / unit)[None, :] ** -EXPONENTS[:, None]  # (exponents, points)
    mean, spread = power.mean(1), power.var(1)
    steep = ((power - mean[:, None]) * (error - error.mean())).mean(1) / spread
    # Least squares with floor and scale of 0 or more: both free if that fits the bounds, else one of them is 0.
    through_zero = np.maximum(0.0, (power * error).mean(1) / (power**2).mean(1))
    floors = error.mean() - steep * mean
    free = (floors >= 0) & (steep >= 0) & (len(set(sizes)) > 2)
    scales, floors = np.where(free, steep, through_zero), np.where(free, floors, 0.0)
    flat = ~free & (steep < 0)  # the error does not fall: the law is its mean
    scales, floors = np.where(flat, 0.0, scales), np.where(flat, max(0.0, error.mean()), floors)
    losses = ((floors[:, None] + scales[:, None] * power - error) ** 2).mean(1)
    best = int(losses.argmin())
    exponent = float(EXPONENTS[best])
    return PowerLaw(
        float(floors[best]), float(scales[best]) * float(unit) ** exponent, exponent, float(losses[best]) ** 0.5
    )
