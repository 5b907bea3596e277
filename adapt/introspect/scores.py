"""Measures: a number for each neuron, by which one chooses. One function a measure, and the higher the better a choice.

A neuron's weights are its row of the layer's weight and its bias. Rows of different layers have different lengths and
sizes, so that plain norms would compare layers and not neurons; each measure says what it divides by. Most of it is one
idea: a network in which a layer is multiplied by a number and the next divided by it, as a ReLU allows, is the same
network, and its weights are looked at relative to their own layer's. Losses and standard deviations need none of it.

Gradients are those of the loss that training would step on, an example at a time: neither padding nor the size of a
batch has a part in them, and a Fisher information is one of examples, not of batches (squares of a batch's mean would
shrink as the batch grows, and with it all that examples disagree about). The model is in eval mode meanwhile, so that
nothing is drawn; its mode, `requires_grad` and gradients are as before afterwards.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.data.sample import Sample
from adapt.errors import InputError
from adapt.introspect.activations import read_activations, valid_lengths
from adapt.introspect.weights.change import incoming, relative_change
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from adapt.progress import track
from interventions import hooks
from interventions.neurons import Scores
from interventions.sites import Site

Measure = Callable[[Model, Sample, Sequence[Site]], Scores]
_TINY = 1e-30


def random(sites: Sequence[Site], seed: int = 0) -> Scores:
    """Evenly drawn from 0 to 1: the control of any other measure."""
    draw = torch.Generator().manual_seed(seed)
    return Scores({site: torch.rand(site.units, generator=draw) for site in sites})


def weight(model: Model, sample: Sample | None, sites: Sequence[Site]) -> Scores:
    """The norm of a neuron's weights, relative to its layer's: divided by the root mean square of the layer's norms.

    It tells neurons of one layer apart, and how far one stands out; of whole layers it says nothing.
    """
    tensors = dict(model.named_parameters(remove_duplicate=False))
    return Scores({site: (own := _squares(tensors, site)).div(own.mean().clamp_min(_TINY)).sqrt() for site in sites})


def rgn(model: Model, sample: Sample, sites: Sequence[Site]) -> Scores:
    """Relative gradient norm: of the target's mean loss, with respect to a neuron's weights, over the layer's weights.

    It is divided by the root mean square of the norms of the layer's neurons, and not by the neuron's own, which in a
    dead neuron is next to nothing. The root mean square over a layer's neurons is then the layer's relative gradient
    norm, as Lee et al. (2022, "Surgical fine-tuning", section 5) define it.
    """
    names = [name for site in sites for name in site.rows]
    gradient = mean_gradient(model, sample, names)
    tensors = dict(model.named_parameters(remove_duplicate=False))
    return Scores({site: (_squares(gradient, site) / _size(tensors, site)).sqrt() for site in sites})


def fisher(model: Model, sample: Sample, sites: Sequence[Site]) -> Scores:
    """Diagonal empirical Fisher information of a neuron's weights, summed over them: the mean over the target's
    examples of each example's squared gradient.

    It is multiplied by the mean square of the layer's weights: what is then measured is how much the loss bends when
    weights change by a share of their size, and no longer the unit that they are counted in.
    """
    names = [name for site in sites for name in site.rows]
    sums = {site: torch.zeros(site.units, dtype=torch.float64) for site in sites}
    for gradient in _gradients(model, sample, names):
        for site in sites:
            sums[site] += _squares(gradient, site)
    tensors = dict(model.named_parameters(remove_duplicate=False))
    count = len(sample.target)
    return Scores({site: own / count * _size(tensors, site) / _length(tensors, site) for site, own in sums.items()})


def activation_gap(model: Model, sample: Sample, sites: Sequence[Site]) -> Scores:
    """How far a neuron's mean activation on the target is from that on the source, in standard deviations.

    Over the examples' own time steps; the variance is the mean of both groups'. 0 where a neuron never varies.
    """
    gaps, deviations = _gaps(sites, *(_activations(model, own, sample.loader, sites) for own in _both(sample)))
    return Scores({site: gaps[site] / deviations[site].clamp_min(_TINY) for site in sites})


def gradient_gap(model: Model, sample: Sample, sites: Sequence[Site]) -> Scores:
    """The activation gap between target and source times what the target's loss makes of it: the mean over the
    target's examples of the gradient's absolute values, summed over time.

    That is the idea of gradient-adjusted activation profiles (GradNAP, Krug et al. 2021), with the loss in the place of
    a predicted letter. They divide by each layer's largest relevance; undivided, the product is in units of the loss,
    and comparable between layers.
    """
    target, source = _both(sample)
    activations = {site: _Spread(site) for site in sites}
    relevance = {site: torch.zeros(site.units, dtype=torch.float64) for site in sites}

    def reduce(site: Site, x: Tensor, gradient: Tensor) -> None:
        activations[site].update(x)
        relevance[site] += gradient.abs().sum(0, dtype=torch.float64).cpu()

    _read_gradients(model, target, sample.loader, sites, reduce)
    gaps, _ = _gaps(sites, activations, _activations(model, source, sample.loader, sites))
    return Scores({site: gaps[site] * relevance[site] / len(target) for site in sites})


def ablation(model: Model, sample: Sample, sites: Sequence[Site]) -> Scores:
    """How much the target's loss changes, up or down, when a neuron is held at its mean: a first-order estimate.

    Sum over time of (mean - activation) x gradient, the mean of it over the target's examples, its absolute value
    (Molchanov et al. 2017; attribution patching, Nanda 2023). One pass, where ablating each neuron would be one each.
    In units of the loss.
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

    _read_gradients(model, sample.target, sample.loader, sites, reduce)
    return Scores({
        site: (total[site] / max(1, steps[site]) * gradients[site] - products[site]).abs() / len(sample.target)
        for site in sites
    })  # fmt: skip


def change(model: Model, other: Model, sites: Sequence[Site]) -> Scores:
    """How far a neuron's weights in another model are from those in this one, relative to the layer's size, as `rgn`
    (`adapt.introspect.weights.change.relative_change`). The other is what a previous run made of this one.

    Raises:
        InputError: the other has no such weights.
    """
    before, after = (dict(own.named_parameters(remove_duplicate=False)) for own in (model, other))
    unlike = [n for site in sites for n in site.rows if n not in after or after[n].shape != before[n].shape]
    if unlike:
        raise InputError(f"The other model has no '{unlike[0]}' of this one's shape. Leave it out by sites=...")
    rows = {site: (incoming(model, site, before), incoming(other, site, after)) for site in sites}
    return Scores({site: relative_change(old, new, to="layer") for site, (old, new) in rows.items()})


MEASURES: Mapping[str, Measure] = {
    measure.__name__: measure for measure in (weight, rgn, fisher, activation_gap, gradient_gap, ablation)
}


def mean_gradient(model: Model, sample: Sample, names: Sequence[str]) -> dict[str, Tensor]:
    """The gradient of the mean over the target's examples of their loss, for each named parameter, on the CPU."""
    sums: dict[str, Tensor] = {}
    for gradient in _gradients(model, sample, names):
        for name, own in gradient.items():
            sums[name] = sums[name] + own if name in sums else own
    return {name: (own / len(sample.target)).cpu() for name, own in sums.items()}


def _gradients(model: Model, sample: Sample, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Each target example's own gradient, by parameter; zeros where a parameter has no part in the loss."""
    known = dict(model.named_parameters(remove_duplicate=False))
    parameters = {name: known[name] for name in names}
    with _requiring(list(parameters.values())), eval_mode(model), torch.enable_grad():
        for batch in _alone(model, sample.target, sample.loader):
            found = torch.autograd.grad(_loss(model, batch), list(parameters.values()), materialize_grads=True)
            yield dict(zip(parameters, (one.detach() for one in found), strict=True))


def _read_gradients(
    model: Model, examples: Sequence[Example], loader: Loader, sites: Sequence[Site], reduce: Callable[..., None]
) -> None:
    """Give `reduce` each site's activations and the loss's gradient by them, `(steps, units)`, own steps only."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(site: Site) -> Callable[..., Tensor]:
        def add(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            # The gradient by zeros that are added is the activation's; a copy, for a ReLU may overwrite the output.
            zeros = torch.zeros_like(output, requires_grad=True)
            found[site.name] = output.detach().clone(), zeros
            return output + zeros

        return add

    handles = []
    try:
        for site in sites:
            handles.append(hooks.module_at(model, site).register_forward_hook(hook(site)))
        with eval_mode(model), torch.enable_grad():
            for batch in _alone(model, examples, loader):
                found.clear()
                steps, loss = valid_lengths(model, batch), _loss(model, batch)
                zeros = [found[site.name][1] for site in sites]
                gradients = torch.autograd.grad(loss, zeros, materialize_grads=True)
                for site, gradient in zip(sites, gradients, strict=True):
                    x, gradient = (hooks.units_last(own, site) for own in (found[site.name][0], gradient))
                    own = hooks.valid_mask(steps(site), x, site)
                    reduce(site, x[own], gradient[own])
    finally:
        for handle in handles:
            handle.remove()


def _alone(model: Model, examples: Sequence[Example], loader: Loader) -> Iterator[Batch]:
    device = next(model.parameters()).device
    batches = replace(loader, batch_seconds=0.0, batch_tokens=0).evaluation(examples, model.reader)
    for batch in track(batches, "gradients"):
        yield batch.to(device)


def _loss(model: Model, batch: Batch) -> Tensor:
    loss = model.task.loss(model, batch)
    if not loss.isfinite():
        example = batch.examples[0]
        raise InputError(
            f"{example.where or example.name}: the loss is {loss.item()}, which has no gradient to choose by. Leave "
            "this example out, or choose by random, weight or activation_gap."
        )
    return loss


@contextmanager
def _requiring(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Ask for the gradients of these parameters alone; they must be the model's, and are as before afterwards."""
    asked = {parameter: parameter.requires_grad for parameter in parameters}
    for parameter in asked:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, before in asked.items():
            parameter.requires_grad_(before)


class _Spread:
    """Count, mean and variance of each unit, merged as they come (Chan, Golub and LeVeque 1983), in 64 bits."""

    def __init__(self, site: Site) -> None:
        self.count = 0
        self.mean, self.scatter = (torch.zeros(site.units, dtype=torch.float64) for _ in range(2))

    def update(self, x: Tensor) -> None:
        """Args: x `(steps, units)`."""
        if not len(x):
            return
        x = x.detach().double().cpu()
        mean, total = x.mean(0), self.count + len(x)
        moved = mean - self.mean
        self.scatter += (x - mean).square().sum(0) + moved.square() * (self.count * len(x) / total)
        self.mean += moved * (len(x) / total)
        self.count = total


def _activations(
    model: Model, examples: Sequence[Example], loader: Loader, sites: Sequence[Site]
) -> dict[Site, _Spread]:
    spread = {site: _Spread(site) for site in sites}
    read_activations(model, examples, loader, sites, lambda site, x: spread[site].update(x))
    return spread


def _gaps(
    sites: Sequence[Site], target: Mapping[Site, _Spread], source: Mapping[Site, _Spread]
) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
    """The difference of the means, absolute, and the standard deviation within both, each `(units,)` by site."""
    gaps, deviations = {}, {}
    for site in sites:
        one, other = target[site], source[site]
        variance = sum(own.scatter / max(1, own.count) for own in (one, other)) / 2
        gaps[site] = (one.mean - other.mean).abs()
        deviations[site] = variance.sqrt()
        # What never varies differs by rounding alone, and has no gap in its own measure.
        scale = 1e-6 * torch.maximum(one.mean.abs(), other.mean.abs())
        gaps[site][deviations[site] <= scale] = 0.0
    return gaps, deviations


def _both(sample: Sample) -> tuple[Sequence[Example], Sequence[Example]]:
    if not sample.source:
        raise InputError(
            "Activation gaps are between target and source, and there are no training examples of the source: give "
            "data.source_train=..., or choose by another measure."
        )
    return sample.target, sample.source


def _squares(tensors: Mapping[str, Tensor], site: Site) -> Tensor:
    """The squared norm of each unit's rows, its bias included, `(units,)` in 64 bits."""
    return sum(tensors[name].detach().double().reshape(site.units, -1).square().sum(1).cpu() for name in site.rows)


def _size(tensors: Mapping[str, Tensor], site: Site) -> Tensor:
    return _squares(tensors, site).mean().clamp_min(_TINY)


def _length(tensors: Mapping[str, Tensor], site: Site) -> int:
    return sum(tensors[name][0].numel() for name in site.rows)
