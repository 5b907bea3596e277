"""Similarity of two layers by their covariances: SVCCA, PWCCA, orthogonal Procrustes.

Each takes the covariances of `x` and of `y` and the one between them `(x's units, y's units)`, so that rows can stream
by (`interventions.moments`), and gives 1 for equal layers and less for others.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Covariance:
    """Of one layer's units, `(units, units)` in float64, over `count` rows."""

    matrix: Tensor
    count: int

    @cached_property
    def principal(self) -> tuple[Tensor, Tensor]:
        """The variances `(directions,)`, highest first, and the directions `(units, directions)` that vary at all."""
        variances, axes = torch.linalg.eigh(self.matrix)
        variances, axes = variances.flip(0), axes.flip(1)
        varies = variances > 1e-10 * variances[0].clamp(min=torch.finfo(variances.dtype).tiny)
        return variances[varies], axes[:, varies]

    def whitening(self, keep: float) -> Tensor:
        """`(units, directions)`: the first principal directions that hold `keep` of the variance, each divided by its
        deviation.
        """
        variances, axes = self.principal
        needed = variances.cumsum(0) - variances < keep * variances.sum()
        return axes[:, needed] / variances[needed].sqrt()


def svcca(x: Covariance, y: Covariance, between: Tensor, keep: float = 0.99) -> float:
    """The mean canonical correlation of the principal directions that hold `keep` of either's variance (Raghu et al.
    2017, section 2.1).

    Raises:
        ValueError: there are fewer than 4 times as many rows as directions; see `correlations`.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is a share of the variance, above 0 and at most 1; got {keep}.")
    found, _ = correlations(x, y, between, keep)
    return float(found.mean()) if len(found) else 0.0


def pwcca(x: Covariance, y: Covariance, between: Tensor) -> float:
    """The mean canonical correlation, each weighted by how much of `x` its direction accounts for (Morcos et al. 2018,
    section 3, projection weighting); it is not symmetric.

    Raises:
        ValueError: there are fewer than 4 times as many rows as directions; see `correlations`.
    """
    found, directions = correlations(x, y, between)
    if not len(found):
        return 0.0
    # A direction's variate is x @ direction; its products with x's units are the covariance times the direction.
    weights = (x.matrix @ directions).abs().sum(0)
    return float((weights * found).sum() / weights.sum())


def procrustes(x: Covariance, y: Covariance, between: Tensor) -> float:
    """How well a rotation takes one onto the other, both brought to length 1: the nuclear norm of what is between them
    (Ding et al. 2021, section 3). The orthogonal Procrustes distance is `sqrt(2 - 2 * similarity)`.
    """
    lengths = (x.matrix.trace() * y.matrix.trace()).sqrt()
    return float(torch.linalg.svdvals(between).sum() / lengths) if lengths > 0 else 0.0


def correlations(x: Covariance, y: Covariance, between: Tensor, keep: float = 1.0) -> tuple[Tensor, Tensor]:
    """The canonical correlations `(k,)`, highest first, and `x`'s directions `(units, k)`, whose variates have
    variance 1. `keep` is the share of the variance whose principal directions are looked at.

    Raises:
        ValueError: there are fewer rows than 4 times the directions. Directions that say nothing of each other have
            correlations of about `sqrt(directions / rows)`, and with as many rows as directions all are 1.
    """
    white_x, white_y, count = x.whitening(keep), y.whitening(keep), min(x.count, y.count)
    most = max(white_x.shape[1], white_y.shape[1])
    if count < 4 * most:
        raise ValueError(
            f"Canonical correlations of {most} directions need {4 * most} rows or more, got {count}: with fewer, "
            "chance correlates them. Give more examples or steps, keep less variance, or use method=cka."
        )
    left, found, right = torch.linalg.svd(white_x.T @ between @ white_y, full_matrices=False)
    return found.clamp(max=1.0), white_x @ left
