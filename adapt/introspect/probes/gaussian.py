"""The Gaussian probe: the information in bits that units have about the class, singly and together."""

import math

import torch
from torch import Tensor

from adapt.introspect.probes.fitted import FittedProbe, balanced_weights, class_means

_PRIOR = 4.0  # rows that the prior counts for: it shrinks the variance of a class towards 1, that of all rows
_UNITS = 256  # processed at a time, to limit memory


@torch.no_grad()
def gaussian(x: Tensor, labels: Tensor, classes: int, most: int = 10, candidates: int = 32) -> FittedProbe:
    """Model each class by a Gaussian (Torroba Hennigen et al. 2020, section 3).

    The score of a unit is the mutual information in bits of its activation and the class, `H(class) - H(class | unit)`,
    with all classes equally frequent. Its score for a class is the information about whether a row is of that class.
    Units are then selected greedily: each is the one that adds most information to those selected before. The predicted
    class is the most probable one given the selected units.

    Args:
        x: Standardised activations, `(rows, units)`.
        labels: The class of each row, `(rows,)`.
        classes: Number of classes.
        most: Number of units to select.
        candidates: Number of units, those with the highest scores, to select from.
    """
    weights = balanced_weights(labels, classes).to(x.dtype)
    one_hot = torch.nn.functional.one_hot(labels, classes).to(x.dtype)
    means, counts = class_means(x, labels, classes), one_hot.sum(0)
    spread = one_hot.T @ (x - means[labels]).square()
    variances = (spread + _PRIOR) / (counts + _PRIOR).unsqueeze(1)
    scores, by_class = [], []
    for unit in range(0, x.shape[1], _UNITS):
        part = slice(unit, unit + _UNITS)
        joint = _log_density(x[:, None, part] - means[:, part], variances[:, part])
        posterior = joint.softmax(1)
        scores.append(_bits(posterior, labels, weights))
        by_class.append(_bits_of_each(posterior, labels, classes))
    scores, by_class = torch.cat(scores), torch.cat(by_class, dim=1)
    best = scores.sort(descending=True, stable=True).indices[:candidates]
    covariances = torch.stack([_covariance(x[labels == label][:, best]) for label in range(classes)])
    chosen = _select_greedily(x[:, best], means[:, best], covariances, labels, weights, most)
    units, means, covariances = best[chosen], means[:, best[chosen]], covariances[:, chosen][:, :, chosen]
    normal = torch.distributions.MultivariateNormal(means, covariances)
    return FittedProbe(scores, by_class, lambda rows: normal.log_prob(rows[:, None, units]).argmax(1))


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    scatter = centred.T @ centred
    return (scatter + _PRIOR * torch.eye(len(scatter), dtype=scatter.dtype)) / (len(rows) + _PRIOR)


def _select_greedily(
    x: Tensor, means: Tensor, covariances: Tensor, labels: Tensor, weights: Tensor, most: int
) -> Tensor:
    """Return candidates `(selected,)` in the order of selection; fewer than `most` if no other adds information."""
    chosen: list[int] = []
    joint, highest = torch.zeros(len(x), len(means), dtype=x.dtype), 0.0
    off = x[:, None] - means  # (rows, classes, candidates)
    while len(chosen) < min(most, x.shape[1]):
        if chosen:
            # The conditional mean and variance of each candidate given the selected ones, in each class.
            held = covariances[:, chosen][:, :, chosen]
            slope = torch.linalg.solve(held, covariances[:, chosen])  # (classes, selected, candidates)
            rest = off - torch.einsum("rcs,csj->rcj", off[:, :, chosen], slope)
            variances = covariances.diagonal(dim1=1, dim2=2) - (covariances[:, chosen] * slope).sum(1)
        else:
            rest, variances = off, covariances.diagonal(dim1=1, dim2=2)
        each = joint.unsqueeze(2) + _log_density(rest, variances.clamp(min=1e-6))
        bits = _bits(each.softmax(1), labels, weights)
        bits[chosen] = -math.inf
        best = int(bits.argmax())
        if float(bits[best]) <= highest:
            break
        chosen, joint, highest = [*chosen, best], each[:, :, best], float(bits[best])
    return torch.tensor(chosen or [0])


def _log_density(off: Tensor, variances: Tensor) -> Tensor:
    # (rows, classes, units), up to a constant.
    return -0.5 * (off.square() / variances + variances.log())


def _bits(posterior: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the bits of each unit about the class, `(units,)`, from posteriors `(rows, classes, units)`."""
    right = posterior[torch.arange(len(labels)), labels].clamp(min=1e-12)
    return math.log2(posterior.shape[1]) + (weights.unsqueeze(1) * right.log2()).sum(0)


def _bits_of_each(posterior: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the bits of each unit about whether a row is of a class, `(classes, units)`."""
    weights = balanced_weights(labels, classes).to(posterior.dtype)
    share = 1 / classes
    before = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    bits = []
    for label in range(classes):
        own = (labels == label).unsqueeze(1)
        right = torch.where(own, posterior[:, label], 1 - posterior[:, label]).clamp(min=1e-12)
        bits.append(before + (weights.unsqueeze(1) * right.log2()).sum(0))
    return torch.stack(bits)
