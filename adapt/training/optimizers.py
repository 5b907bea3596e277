"""Optimizers: the groups of parameters that they get, and whether they can train them at all."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adapt.errors import InputError

MakeOptimizer = Callable[..., Optimizer]  # takes parameters, or groups of parameters

_OPTIONS = "Its options are given as in optimizer.lr=0.001."


def parameter_groups(model: nn.Module, rates: Mapping[str, float]) -> dict[float, list[nn.Parameter]]:
    """Return the trained parameters by their learning-rate factor, which is 1 without an entry in `rates`."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(rates.get(name, 1.0), []).append(parameter)
    return groups


def checked_optimizer(make: MakeOptimizer) -> MakeOptimizer:
    """Return `make` after trying it on a weight matrix. Raises InputError if the optimizer rejects an option."""
    rate = getattr(make, "keywords", {}).get("lr")
    if isinstance(rate, str):  # which optimizers compare with a number
        raise InputError(f"optimizer: lr must be a number above 0, such as 0.001; got {rate!r}.")
    _made(make, [{"params": [nn.Parameter(torch.zeros(1, 1))]}])
    return make


def check_steps(
    make: MakeOptimizer, model: nn.Module, rates: Mapping[str, float], device: torch.device | str = "cpu"
) -> None:
    """Check that an optimizer can train a model: try a step on one value of each trained parameter.

    The values have as many dimensions as their parameters: some optimizers take matrices only. Others take sparse
    gradients only, or a single group of parameters.

    Raises:
        InputError: the optimizer cannot train these parameters, or has no learning rate.
    """
    groups = [
        {"params": [nn.Parameter(torch.full([1] * one.dim(), 0.5, device=device)) for one in group]}
        for group in parameter_groups(model, rates).values()
    ]
    hint = "Give another one, such as optimizer._target_=torch.optim.AdamW."
    optimizer = _made(make, groups, hint)
    parameters = [parameter for group in groups for parameter in group["params"]]

    def gradients() -> float:
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 0.1)
        return 1.0

    try:
        gradients()
        optimizer.step(gradients)
    except Exception as error:  # each optimizer raises its own errors
        message = " ".join(str(error).split())[:300]
        raise InputError(
            f"optimizer: {type(optimizer).__name__} cannot train these weights ({message}). {hint}"
        ) from None


def _made(make: MakeOptimizer, groups: list, hint: str = _OPTIONS) -> Optimizer:
    try:
        optimizer = make([dict(group) for group in groups])
    except Exception as error:  # each optimizer raises its own errors; AdamW's for betas=[0.9] is an IndexError
        message = " ".join(str(error).split())
        raise InputError(f"optimizer: {message}. {hint}") from None
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"optimizer: expected one of torch.optim; got a {type(optimizer).__name__}.")
    rates = [group.get("lr") for group in optimizer.param_groups]
    if any(not isinstance(rate, (float, int, Tensor)) or isinstance(rate, bool) for rate in rates):
        raise InputError(f"optimizer: a {type(optimizer).__name__} needs a learning rate; got lr={rates[0]!r}.")
    return optimizer
