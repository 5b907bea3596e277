"""Scores of neurons by which a tuning chooses them, from highest to lowest. One function per score.

The weights of a neuron are its row of the layer's weight and its bias. Rows of different layers differ in length and
scale, so plain norms would compare layers instead of neurons. Most scores are therefore relative to the weights of the
layer: multiplying one layer by a constant and dividing the next by it, as a ReLU allows, does not change the network,
and should not change a score. Scores in units of the loss or of standard deviations do not need this.

Gradients are those of single examples (`adapt.introspect.loss_gradients`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.introspect.activations import read_activations
from adapt.introspect.loss_gradients import example_gradients, mean_gradient, read_gradients
from adapt.introspect.weights.change import incoming_weights, relative_change
from adapt.models.model import Model
from interventions.neurons import Scores
from interventions.sites import Site

Score = Callable[[Model, TuningData, Sequence[Site]], Scores]
_TINY = 1e-30


def random(sites: Sequence[Site], seed: int = 0) -> Scores:
    """Random scores, uniform between 0 and 1: a control for the other scores."""
    draw = torch.Generator().manual_seed(seed)
    return Scores({site: torch.rand(site.units, generator=draw) for site in sites})


def weight(model: Model, sample: TuningData | None, sites: Sequence[Site]) -> Scores:
    """The norm of a neuron's weights, divided by the root mean square of the norms of its layer.

    It compares neurons of one layer, and says nothing about whole layers.
    """
    tensors = dict(model.named_parameters(remove_duplicate=False))
    scores = {}
    for site in sites:
        squares = _squared_norms(tensors, site)
        scores[site] = squares.div(squares.mean().clamp_min(_TINY)).sqrt()
    return Scores(scores)


def rgn(model: Model, sample: TuningData, sites: Sequence[Site]) -> Scores:
    """Relative gradient norm: the norm of the gradient of the target's mean loss with respect to a neuron's weights.

    It is divided by the root mean square of the norms of the weights in the layer, not by the norm of the neuron's own
    weights, which is close to 0 for a dead neuron. The root mean square of this score over a layer is the layer's
    relative gradient norm of Lee et al. (2022, "Surgical fine-tuning", section 5).
    """
    names = [name for site in sites for name in site.rows]
    gradient = mean_gradient(model, sample, names)
    tensors = dict(model.named_parameters(remove_duplicate=False))
    return Scores({site: (_squared_norms(gradient, site) / _mean_square(tensors, site)).sqrt() for site in sites})


def fisher(model: Model, sample: TuningData, sites: Sequence[Site]) -> Scores:
    """Diagonal empirical Fisher information, summed over a neuron's weights.

    It is the mean of the squared gradients of single target examples, multiplied by the mean square of the layer's
    weights. So it measures the curvature of the loss for relative changes of weights, independent of their scale.
    """
    names = [name for site in sites for name in site.rows]
    sums = {site: torch.zeros(site.units, dtype=torch.float64) for site in sites}
    for gradient in example_gradients(model, sample, names):
        for site in sites:
            sums[site] += _squared_norms(gradient, site)
    tensors = dict(model.named_parameters(remove_duplicate=False))
    count = len(sample.target)
    return Scores({
        site: own / count * _mean_square(tensors, site) / _row_length(tensors, site) for site, own in sums.items()
    })  # fmt: skip


def activation_gap(model: Model, sample: TuningData, sites: Sequence[Site]) -> Scores:
    """The distance between a neuron's mean activations on target and source, in standard deviations.

    Means are taken over valid steps, and the variance is the mean of those of target and source. The score of a neuron
    without variance is 0.
    """
    target, source = _target_and_source(sample)
    gaps, deviations = _gaps(
        sites, _moments(model, target, sample.loader, sites), _moments(model, source, sample.loader, sites)
    )
    return Scores({site: gaps[site] / deviations[site].clamp_min(_TINY) for site in sites})


def gradient_gap(model: Model, sample: TuningData, sites: Sequence[Site]) -> Scores:
    """The distance between a neuron's mean activations on target and source, times its relevance for the loss.

    The relevance is the absolute gradient of the target's loss with respect to the activation, summed over time and
    averaged over the examples. This follows gradient-adjusted neuron activation profiles (GradNAP, Krug et al. 2021),
    with the loss in place of a predicted letter, and without the division by the largest relevance of the layer: the
    product is in units of the loss and comparable between layers.
    """
    target, source = _target_and_source(sample)
    activations = {site: _Moments(site) for site in sites}
    relevance = {site: torch.zeros(site.units, dtype=torch.float64) for site in sites}

    def reduce(site: Site, x: Tensor, gradient: Tensor) -> None:
        activations[site].update(x)
        relevance[site] += gradient.abs().sum(0, dtype=torch.float64).cpu()

    read_gradients(model, target, sample.loader, sites, reduce)
    gaps, _ = _gaps(sites, activations, _moments(model, source, sample.loader, sites))
    return Scores({site: gaps[site] * relevance[site] / len(target) for site in sites})


def ablation(model: Model, sample: TuningData, sites: Sequence[Site]) -> Scores:
    """First-order estimate of the change of the target's loss when a neuron is replaced by its mean, in absolute value.

    It is the sum over time of (mean - activation) x gradient, averaged over the target examples (Molchanov et al. 2017;
    attribution patching, Nanda 2023), in units of the loss. One pass estimates it for all neurons.
    """
    zeros = partial(torch.zeros, dtype=torch.float64)
    total, gradients, products = ({site: zeros(site.units) for site in sites} for _ in range(3))
    steps = dict.fromkeys(sites, 0)

    def reduce(site: Site, x: Tensor, gradient: Tensor) -> None:
        x, gradient = x.double().cpu(), gradient.double().cpu()
        steps[site] += len(x)
        total[site] += x.sum(0)
        gradients[site] += gradient.sum(0)
        products[site] += (x * gradient).sum(0)

    read_gradients(model, sample.target, sample.loader, sites, reduce)
    return Scores({
        site: (total[site] / max(1, steps[site]) * gradients[site] - products[site]).abs() / len(sample.target)
        for site in sites
    })  # fmt: skip


def change(model: Model, other: Model, sites: Sequence[Site]) -> Scores:
    """The change of a neuron's weights in another model, relative to the weights of the layer as in `rgn`.

    `other` is, for example, the result of a previous run. See `adapt.introspect.weights.change.relative_change`.

    Raises:
        InputError: The other model does not have these weights.
    """
    before, after = (dict(own.named_parameters(remove_duplicate=False)) for own in (model, other))
    missing = [n for site in sites for n in site.rows if n not in after or after[n].shape != before[n].shape]
    if missing:
        raise InputError(
            f"The other model has no parameter '{missing[0]}' of the same shape. Choose sites without this parameter."
        )
    rows = {site: (incoming_weights(model, site, before), incoming_weights(other, site, after)) for site in sites}
    return Scores({site: relative_change(old, new, to="layer") for site, (old, new) in rows.items()})


MEASURES: Mapping[str, Score] = {
    "weight": weight,
    "rgn": rgn,
    "fisher": fisher,
    "activation_gap": activation_gap,
    "gradient_gap": gradient_gap,
    "ablation": ablation,
}


class _Moments:
    """Running count, mean and scatter of each unit in float64 (Chan, Golub and LeVeque 1983)."""

    def __init__(self, site: Site) -> None:
        self.count = 0
        self.mean = torch.zeros(site.units, dtype=torch.float64)
        self.scatter = torch.zeros(site.units, dtype=torch.float64)

    def update(self, x: Tensor) -> None:
        """Add activations `(steps, units)`."""
        if not len(x):
            return
        x = x.detach().double().cpu()
        mean, total = x.mean(0), self.count + len(x)
        moved = mean - self.mean
        self.scatter += (x - mean).square().sum(0) + moved.square() * (self.count * len(x) / total)
        self.mean += moved * (len(x) / total)
        self.count = total


def _moments(model: Model, examples: Sequence[Example], loader: Loader, sites: Sequence[Site]) -> dict[Site, _Moments]:
    moments = {site: _Moments(site) for site in sites}
    read_activations(model, examples, loader, sites, lambda site, x: moments[site].update(x))
    return moments


def _gaps(
    sites: Sequence[Site], target: Mapping[Site, _Moments], source: Mapping[Site, _Moments]
) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
    """Return the absolute difference of the means and the pooled standard deviation by site, `(units,)` each."""
    gaps, deviations = {}, {}
    for site in sites:
        one, other = target[site], source[site]
        variance = (one.scatter / max(1, one.count) + other.scatter / max(1, other.count)) / 2
        gaps[site] = (one.mean - other.mean).abs()
        deviations[site] = variance.sqrt()
        # The means of a constant unit differ only by rounding.
        scale = 1e-6 * torch.maximum(one.mean.abs(), other.mean.abs())
        gaps[site][deviations[site] <= scale] = 0.0
    return gaps, deviations


def _target_and_source(sample: TuningData) -> tuple[Sequence[Example], Sequence[Example]]:
    if not sample.source:
        raise InputError(
            "Gaps compare target and source, and the data have no training examples of the source. Give them as "
            "source_train, or choose neurons by another score."
        )
    return sample.target, sample.source


def _squared_norms(tensors: Mapping[str, Tensor], site: Site) -> Tensor:
    """Return the squared norm of each unit's weights and bias, `(units,)` in float64."""
    norms = [tensors[name].detach().double().reshape(site.units, -1).square().sum(1).cpu() for name in site.rows]
    return sum(norms[1:], norms[0])


def _mean_square(tensors: Mapping[str, Tensor], site: Site) -> Tensor:
    return _squared_norms(tensors, site).mean().clamp_min(_TINY)


def _row_length(tensors: Mapping[str, Tensor], site: Site) -> int:
    return sum(tensors[name][0].numel() for name in site.rows)
