"""Similarity of two layers from their covariances: SVCCA, PWCCA and orthogonal Procrustes.

Each function takes the covariances of the units of `x` and `y`, and the cross-covariance `(x's units, y's units)`, so
rows can be accumulated batch by batch (`interventions.moments`). Equal layers have similarity 1.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Covariance:
    """The covariance of one layer's units, `(units, units)` in float64, over `count` rows."""

    matrix: Tensor
    count: int

    @cached_property
    def principal(self) -> tuple[Tensor, Tensor]:
        """The principal components: variances `(directions,)`, highest first, and directions `(units, directions)`.

        Directions without variance are left out.
        """
        variances, axes = torch.linalg.eigh(self.matrix)
        variances, axes = variances.flip(0), axes.flip(1)
        varies = variances > 1e-10 * variances[0].clamp(min=torch.finfo(variances.dtype).tiny)
        return variances[varies], axes[:, varies]

    def whitening(self, keep: float) -> Tensor:
        """Return the whitening matrix `(units, directions)` onto the components that explain `keep` of the variance."""
        variances, axes = self.principal
        needed = variances.cumsum(0) - variances < keep * variances.sum()
        return axes[:, needed] / variances[needed].sqrt()


def svcca(x: Covariance, y: Covariance, between: Tensor, keep: float = 0.99) -> float:
    """Singular vector CCA (Raghu et al. 2017, section 2.1).

    It is the mean canonical correlation of the principal components that explain `keep` of the variance of each layer.

    Raises:
        ValueError: There are too few rows; see `correlations`.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be a share of the variance, above 0 and at most 1; got {keep}.")
    values, _ = correlations(x, y, between, keep)
    return float(values.mean()) if len(values) else 0.0


def pwcca(x: Covariance, y: Covariance, between: Tensor) -> float:
    """Projection-weighted CCA (Morcos et al. 2018, section 3).

    It is the mean canonical correlation, with each weighted by how much of `x` its direction explains. Not symmetric.

    Raises:
        ValueError: There are too few rows; see `correlations`.
    """
    values, directions = correlations(x, y, between)
    if not len(values):
        return 0.0
    # The variate of a direction is x @ direction, and its covariance with the units of x is cov(x) @ direction.
    weights = (x.matrix @ directions).abs().sum(0)
    return float((weights * values).sum() / weights.sum())


def procrustes(x: Covariance, y: Covariance, between: Tensor) -> float:
    """Orthogonal Procrustes similarity (Ding et al. 2021, section 3).

    It measures how well a rotation maps one layer onto the other after both are scaled to norm 1: the nuclear norm of
    the cross-covariance. The orthogonal Procrustes distance is `sqrt(2 - 2 * similarity)`.
    """
    lengths = (x.matrix.trace() * y.matrix.trace()).sqrt()
    return float(torch.linalg.svdvals(between).sum() / lengths) if lengths > 0 else 0.0


def correlations(x: Covariance, y: Covariance, between: Tensor, keep: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the canonical correlations `(k,)`, highest first, and the directions of `x`, `(units, k)`.

    The variates of the directions have variance 1. Only the principal components that explain `keep` of the variance
    are used.

    Raises:
        ValueError: There are fewer than 4 rows per direction. Unrelated directions have correlations of about
            `sqrt(directions / rows)`, and with as many directions as rows all correlations are 1.
    """
    white_x, white_y, count = x.whitening(keep), y.whitening(keep), min(x.count, y.count)
    directions = max(white_x.shape[1], white_y.shape[1])
    if count < 4 * directions:
        raise ValueError(
            f"Canonical correlations of {directions} directions need at least {4 * directions} rows; got {count}. With "
            "fewer, they are high by chance. Give more examples or steps, or use method=cka."
        )
    left, values, _ = torch.linalg.svd(white_x.T @ between @ white_y, full_matrices=False)
    return values.clamp(max=1.0), white_x @ left
