"""The Gaussian probe: how many bits of the class a unit's activation holds, and which few hold most together."""

import math

import torch
from torch import Tensor

from adapt.introspect.probes.fitted import Fitted, balance, class_means

_PRIOR = 4.0  # how many rows the prior weighs: a class's variance is drawn towards 1, that of all rows
_UNITS = 256  # whose densities are held at a time


@torch.no_grad()
def gaussian(x: Tensor, labels: Tensor, classes: int, most: int = 10, candidates: int = 32) -> Fitted:
    """Model each class of `x` `(rows, units)`, standardised, by a Gaussian (Torroba Hennigen et al. 2020, section 3).

    A unit's score is the information in bits that its activation alone has of the class, `H(class) - H(class | unit)`,
    with classes of equal share; by class, what it has of whether a row is of that class. From the `candidates` units
    with the highest scores, up to `most` are then chosen greedily: each the one that adds most to what those before it
    tell. The answer is the likeliest class given these. Variances are drawn towards those of all rows, by as much as
    `_PRIOR` rows weigh.
    """
    weights = balance(labels, classes).to(x.dtype)
    of_class = torch.nn.functional.one_hot(labels, classes).to(x.dtype)
    means, counts = class_means(x, labels, classes), of_class.sum(0)
    spread = of_class.T @ (x - means[labels]).square()
    variances = (spread + _PRIOR) / (counts + _PRIOR).unsqueeze(1)
    known, by_class = [], []
    for unit in range(0, x.shape[1], _UNITS):
        part = slice(unit, unit + _UNITS)
        joint = _log_density(x[:, None, part] - means[:, part], variances[:, part])
        posterior = joint.softmax(1)
        known.append(_bits(posterior, labels, weights))
        by_class.append(_bits_of_each(posterior, labels, classes))
    scores, by_class = torch.cat(known), torch.cat(by_class, dim=1)
    best = scores.sort(descending=True, stable=True).indices[:candidates]
    covariances = torch.stack([_covariance(x[labels == label][:, best]) for label in range(classes)])
    chosen = _greedy(x[:, best], means[:, best], covariances, labels, weights, most)
    units, means, covariances = best[chosen], means[:, best[chosen]], covariances[:, chosen][:, :, chosen]
    normal = torch.distributions.MultivariateNormal(means, covariances)
    return Fitted(scores, by_class, lambda rows: normal.log_prob(rows[:, None, units]).argmax(1))


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    scatter = centred.T @ centred
    return (scatter + _PRIOR * torch.eye(len(scatter), dtype=scatter.dtype)) / (len(rows) + _PRIOR)


def _greedy(x: Tensor, means: Tensor, covariances: Tensor, labels: Tensor, weights: Tensor, most: int) -> Tensor:
    """The candidates `(chosen,)` in the order in which they are chosen; fewer than `most` where none adds anything."""
    chosen: list[int] = []
    joint, told = torch.zeros(len(x), len(means), dtype=x.dtype), 0.0
    off = x[:, None] - means  # (rows, classes, candidates)
    while len(chosen) < min(most, x.shape[1]):
        if chosen:
            # What each candidate should be given the chosen ones, and how far it strays from that, in each class.
            held = covariances[:, chosen][:, :, chosen]
            given = torch.linalg.solve(held, covariances[:, chosen])  # (classes, chosen, candidates)
            rest = off - torch.einsum("rcs,csj->rcj", off[:, :, chosen], given)
            variances = covariances.diagonal(dim1=1, dim2=2) - (covariances[:, chosen] * given).sum(1)
        else:
            rest, variances = off, covariances.diagonal(dim1=1, dim2=2)
        each = joint.unsqueeze(2) + _log_density(rest, variances.clamp(min=1e-6))
        bits = _bits(each.softmax(1), labels, weights)
        bits[chosen] = -math.inf
        best = int(bits.argmax())
        if float(bits[best]) <= told:
            break
        chosen, joint, told = [*chosen, best], each[:, :, best], float(bits[best])
    return torch.tensor(chosen or [0])


def _log_density(off: Tensor, variances: Tensor) -> Tensor:
    # (rows, classes, units), but for what all of them share.
    return -0.5 * (off.square() / variances + variances.log())


def _bits(posterior: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Of posteriors `(rows, classes, units)`: the bits `(units,)` that each unit has of the class."""
    right = posterior[torch.arange(len(labels)), labels].clamp(min=1e-12)
    return math.log2(posterior.shape[1]) + (weights.unsqueeze(1) * right.log2()).sum(0)


def _bits_of_each(posterior: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The bits `(classes, units)` that each unit has of whether a row is of the class."""
    weights = balance(labels, classes).to(posterior.dtype)
    share = 1 / classes
    before = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    found = []
    for label in range(classes):
        own = (labels == label).unsqueeze(1)
        right = torch.where(own, posterior[:, label], 1 - posterior[:, label]).clamp(min=1e-12)
        found.append(before + (weights.unsqueeze(1) * right.log2()).sum(0))
    return torch.stack(found)
