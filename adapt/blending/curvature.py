"""The diagonal Fisher information of a model's weights: how much its loss on examples depends on each."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.models.eval_mode import eval_mode
from adapt.models.model import Model
from adapt.progress import track


def diagonal_fisher(model: Model, examples: Sequence[Example], loader: Loader) -> dict[str, Tensor]:
    """Return the mean squared gradient of the loss with the reference text (the "empirical" Fisher information).

    Args:
        model: The model; it stays unchanged.
        examples: The examples, each of which takes a pass of its own.
        loader: Reads them.

    Returns:
        By name in the network: the information of each parameter, in float32.
    """
    parameters = dict(model.net.named_parameters())
    trained = {name: parameter.requires_grad for name, parameter in parameters.items()}
    total = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in parameters.items()}
    single = replace(loader, batch_seconds=0.0, batch_tokens=0)  # one example per batch
    device = next(iter(parameters.values())).device
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        with eval_mode(model), torch.enable_grad():
            for batch in track(single.evaluation(examples, model.reader), "Fisher information"):
                loss = model.task.loss(model, batch.to(device))
                gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
                for squares, gradient in zip(total.values(), gradients, strict=True):
                    if gradient is not None:
                        squares += gradient.float().square() / len(examples)
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(trained[name])
    return total
