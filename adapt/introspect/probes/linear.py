"""The linear probe: multinomial logistic regression with an elastic net, whose weights rank the units."""

import torch
from torch import Tensor, nn

from adapt.introspect.probes.fitted import FittedProbe, balanced_weights

STEPS = 300  # at most; most fits need about 100
_TOLERANCE = 1e-3  # stop when an iteration changes the weights by less than this share


def linear(x: Tensor, labels: Tensor, classes: int, strength: float = 0.01, mix: float = 0.5) -> FittedProbe:
    """Fit a multinomial logistic regression in which all classes have the same weight, whatever their size.

    The objective is `mean CE + penalty * (mix * |W|_1 + (1 - mix) / 2 * |W|_2^2)` (Zou & Hastie 2005). It is minimised
    by accelerated proximal gradient steps on all rows (Beck & Teboulle 2009, section 4, with the restarts of
    O'Donoghue & Candès 2015), which are deterministic and give exact zeros. The score of a unit for a class is its
    share of the class's `|W|`, and its overall score is `earliest_use`.

    Args:
        x: Standardised activations, `(rows, units)`.
        labels: The class of each row, `(rows,)`.
        classes: Number of classes.
        strength: The penalty, as a share of the smallest penalty at which all weights are 0. The same strength gives
            about the same sparsity at all layers.
        mix: Share of the L1 penalty.
    """
    weight, bias = _minimise(x, labels, classes, strength, mix)
    mass = weight.abs()
    by_class = mass / mass.sum(1, keepdim=True).clamp(min=1e-12)
    return FittedProbe(earliest_use(mass), by_class, lambda rows: (rows @ weight.T + bias).argmax(1))


def earliest_use(mass: Tensor) -> Tensor:
    """Return the ranking of NeuroX (Dalvi et al. 2019, section 3.1) as a score from 0 to 1, `(units,)`.

    For each class, the units with the largest absolute weights `mass` `(classes, units)` are taken until they make up a
    share p of the class's total. The score of a unit is 1 minus the smallest p at which any class takes it: 1 for the
    first unit of a class, and 0 for a unit that no class uses.
    """
    ordered, order = mass.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(1) - ordered
    share = before / ordered.sum(1, keepdim=True).clamp(min=1e-12)
    taken_at = torch.ones_like(mass).scatter(1, order, torch.where(ordered > 0, share, 1.0))
    return 1 - taken_at.amin(0).clamp(0, 1)


@torch.no_grad()
def _minimise(x: Tensor, labels: Tensor, classes: int, strength: float, mix: float) -> tuple[Tensor, Tensor]:
    weights = balanced_weights(labels, classes).to(x.dtype).unsqueeze(1)
    one_hot = nn.functional.one_hot(labels, classes).to(x.dtype)
    # The bias is an extra unit with a constant activation and without a penalty.
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    smallest = (((1 / classes - one_hot) * weights).T @ x[:, :-1]).abs().max() / mix
    l1, l2 = float(strength * mix * smallest), float(strength * (1 - mix) * smallest)
    step = 1 / (0.5 * _curvature(x * weights.sqrt()) + l2)

    def gradient(point: Tensor) -> Tensor:
        off = ((x @ point.T).softmax(1) - one_hot) * weights
        result = off.T @ x
        result[:, :-1] += l2 * point[:, :-1]
        return result

    solution = point = torch.zeros(classes, x.shape[1])
    momentum = 1.0
    for _ in range(STEPS):
        moved = point - step * gradient(point)
        moved[:, :-1] = nn.functional.softshrink(moved[:, :-1], step * l1)
        change = moved - solution
        if float(((point - moved) * change).sum()) > 0:  # the step has overshot: restart
            momentum, point, solution = 1.0, moved, moved
            continue
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        point, solution = moved + (momentum - 1) / following * change, moved
        momentum = following
        if float(change.norm()) <= _TOLERANCE * float(moved.norm()):
            break
    return solution[:, :-1], solution[:, -1]


def _curvature(x: Tensor) -> float:
    """Return an upper bound close to the largest eigenvalue of `x.T @ x`, by power iteration."""
    direction = torch.ones(x.shape[1]) / x.shape[1] ** 0.5
    length = torch.tensor(1.0)
    for _ in range(30):
        direction = x.T @ (x @ direction)
        length = direction.norm()
        direction = direction / length.clamp(min=1e-12)
    return 1.05 * max(float(length), 1e-12)
