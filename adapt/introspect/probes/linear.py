"""The linear probe: multinomial logistic regression with an elastic net, and its units ranked by their weights."""

import torch
from torch import Tensor, nn

from adapt.introspect.probes.fitted import Fitted, balance

STEPS = 300  # at most; most fits need some 100
_STILL = 1e-3  # relative to all weights: an iteration that moves them by less is the last


def linear(x: Tensor, labels: Tensor, classes: int, strength: float = 0.01, mix: float = 0.5) -> Fitted:
    """Fit it to `x` `(rows, units)`, standardised, and `labels` `(rows,)`; classes count alike, rare ones too.

    What is minimised is `mean CE + penalty * (mix * |W|_1 + (1 - mix) / 2 * |W|_2^2)` (Zou & Hastie 2005), where
    `penalty` is `strength` times the least at which all weights are 0: so the same strength means as sparse a probe
    whatever the layer. It is minimised by accelerated proximal gradient steps on all rows at once (Beck & Teboulle
    2009, section 4, with restarts of O'Donoghue & Candès 2015), which draws nothing at random and leaves exact zeros.

    A class's units are scored by their share of the class's `|W|`. All units are scored by `first_needed`.
    """
    weight, bias = _minimise(x, labels, classes, strength, mix)
    mass = weight.abs()
    by_class = mass / mass.sum(1, keepdim=True).clamp(min=1e-12)
    return Fitted(first_needed(mass), by_class, lambda rows: (rows @ weight.T + bias).argmax(1))


def first_needed(mass: Tensor) -> Tensor:
    """The ranking of NeuroX (Dalvi et al. 2019, section 3.1), as a score `(units,)` from 0 to 1.

    A class needs its units in the order of their weights `mass` `(classes, units)`. Of each p % of all its weights, the
    units that make them up are needed; let p grow, and a unit that any class needs at a smaller p ranks higher. The
    score is 1 less that p: 1 for the first of a class, 0 for what no class uses.
    """
    ordered, order = mass.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(1) - ordered
    share = before / ordered.sum(1, keepdim=True).clamp(min=1e-12)
    needed_at = torch.ones_like(mass).scatter(1, order, torch.where(ordered > 0, share, 1.0))
    return 1 - needed_at.amin(0).clamp(0, 1)


@torch.no_grad()
def _minimise(x: Tensor, labels: Tensor, classes: int, strength: float, mix: float) -> tuple[Tensor, Tensor]:
    weights = balance(labels, classes).to(x.dtype).unsqueeze(1)
    wanted = nn.functional.one_hot(labels, classes).to(x.dtype)
    # The bias is one more unit, of constant activation and without a penalty.
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    least = (((1 / classes - wanted) * weights).T @ x[:, :-1]).abs().max() / mix
    l1, l2 = float(strength * mix * least), float(strength * (1 - mix) * least)
    step = 1 / (0.5 * _curvature(x * weights.sqrt()) + l2)

    def gradient(point: Tensor) -> Tensor:
        off = ((x @ point.T).softmax(1) - wanted) * weights
        found = off.T @ x
        found[:, :-1] += l2 * point[:, :-1]
        return found

    found = point = torch.zeros(classes, x.shape[1])
    momentum = 1.0
    for _ in range(STEPS):
        moved = point - step * gradient(point)
        moved[:, :-1] = nn.functional.softshrink(moved[:, :-1], step * l1)
        change = moved - found
        if float(((point - moved) * change).sum()) > 0:  # it has overshot
            momentum, point, found = 1.0, moved, moved
            continue
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        point, found = moved + (momentum - 1) / following * change, moved
        momentum = following
        if float(change.norm()) <= _STILL * float(moved.norm()):
            break
    return found[:, :-1], found[:, -1]


def _curvature(x: Tensor) -> float:
    """The largest eigenvalue of `x.T @ x`, by power iteration, and a little more."""
    direction = torch.ones(x.shape[1]) / x.shape[1] ** 0.5
    length = torch.tensor(1.0)
    for _ in range(30):
        direction = x.T @ (x @ direction)
        length = direction.norm()
        direction = direction / length.clamp(min=1e-12)
    return 1.05 * max(float(length), 1e-12)
