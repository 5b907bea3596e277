"""Gradients of the training loss, one example at a time.

Because each example is read alone, neither padding nor the batch size affects its gradient, and Fisher information is
a mean over examples, not over batches (the square of a batch's mean gradient would shrink as the batch grows). The
model is in eval mode meanwhile, so nothing is random. Its mode, `requires_grad` and gradients are restored afterwards.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.introspect.activations import valid_lengths
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from adapt.progress import track
from interventions import hooks
from interventions.sites import Site


def mean_gradient(model: Model, sample: TuningData, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the gradient of the mean loss of the target examples, for each named parameter, on the CPU."""
    sums: dict[str, Tensor] = {}
    for gradient in example_gradients(model, sample, names):
        for name, values in gradient.items():
            sums[name] = sums[name] + values if name in sums else values
    return {name: (total / len(sample.target)).cpu() for name, total in sums.items()}


def example_gradients(model: Model, sample: TuningData, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Yield the gradient of the loss of each target example, by parameter; 0 if the loss does not depend on it."""
    every = dict(model.named_parameters(remove_duplicate=False))
    parameters = {name: every[name] for name in names}
    with _requires_grad(list(parameters.values())), eval_mode(model), torch.enable_grad():
        for batch in _single_batches(model, sample.target, sample.loader):
            gradients = torch.autograd.grad(_loss(model, batch), list(parameters.values()), materialize_grads=True)
            yield dict(zip(parameters, (one.detach() for one in gradients), strict=True))


def read_gradients(
    model: Model, examples: Sequence[Example], loader: Loader, sites: Sequence[Site], reduce: Callable[..., None]
) -> None:
    """Pass the activations of each site and the loss gradients with respect to them to `reduce`, both `(steps, units)`.

    Only valid steps are passed.
    """
    outputs: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(site: Site) -> Callable[..., Tensor]:
        def add(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            # Zeros are added to the output: the gradient with respect to them equals that with respect to the output.
            # The output is copied, because a ReLU may overwrite it.
            zeros = torch.zeros_like(output, requires_grad=True)
            outputs[site.name] = output.detach().clone(), zeros
            return output + zeros

        return add

    handles = []
    try:
        for site in sites:
            handles.append(hooks.module_at(model, site).register_forward_hook(hook(site)))
        with eval_mode(model), torch.enable_grad():
            for batch in _single_batches(model, examples, loader):
                outputs.clear()
                steps, loss = valid_lengths(model, batch), _loss(model, batch)
                zeros = [outputs[site.name][1] for site in sites]
                gradients = torch.autograd.grad(loss, zeros, materialize_grads=True)
                for site, gradient in zip(sites, gradients, strict=True):
                    x, gradient = (hooks.units_last(own, site) for own in (outputs[site.name][0], gradient))
                    valid = hooks.valid_mask(steps(site), x, site)
                    reduce(site, x[valid], gradient[valid])
    finally:
        for handle in handles:
            handle.remove()


def _single_batches(model: Model, examples: Sequence[Example], loader: Loader) -> Iterator[Batch]:
    device = next(model.parameters()).device
    batches = replace(loader, batch_seconds=0.0, batch_tokens=0).evaluation(examples, model.reader)
    for batch in track(batches, "gradients"):
        yield batch.to(device)


def _loss(model: Model, batch: Batch) -> Tensor:
    loss = model.task.loss(model, batch)
    if not loss.isfinite():
        example = batch.examples[0]
        raise InputError(
            f"{example.where or example.name}: the loss is {loss.item()}, so there is no gradient. Leave this example "
            "out, or choose neurons by random, weight or activation_gap."
        )
    return loss


@contextmanager
def _requires_grad(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the block, these parameters require gradients."""
    before = {parameter: parameter.requires_grad for parameter in parameters}
    for parameter in before:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, required in before.items():
            parameter.requires_grad_(required)
