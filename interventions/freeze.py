"""Freezing: choose by name which parameters train, and keep frozen modules in eval mode."""

# The base class of batch norms is private.
# pyright: reportPrivateUsage=false

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze_all_but(model: nn.Module, trainable: Iterable[str]) -> None:
    """Let only the named parameters train.

    Raises:
        ValueError: If a name is not that of a parameter of the model, or no name is given.
    """
    chosen = set(trainable)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    unknown = sorted(chosen - parameters.keys())
    if unknown:
        raise ValueError(f"The model has no parameter '{unknown[0]}'. It has {', '.join(parameters)}.")
    if not chosen:
        raise ValueError("Nothing is left to train: choose at least one layer.")
    # A tied parameter has several names, and any of them makes it trainable.
    trained = {id(parameters[name]) for name in chosen}
    for parameter in parameters.values():
        parameter.requires_grad_(id(parameter) in trained)
        parameter.grad = None  # an optimizer would still apply the gradient of an earlier step


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules that must run in eval mode, because they are frozen, and all their children.

    These are modules whose parameters, including those of child modules, are all frozen, and batch norms whose weight
    is frozen. `requires_grad=False` alone does not stop their statistics from drifting; like the weight, these scale
    the activations. A module without parameters (an activation, a dropout) follows the module that contains it; but a
    batch norm without parameters is updated only if all parameters of the module that contains it train.
    """
    frozen: list[nn.Module] = []
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            frozen.extend(module.modules())
        if isinstance(module, _BatchNorm) and module.affine and not module.weight.requires_grad:
            frozen.append(module)
        if not all(parameter.requires_grad for parameter in parameters):
            frozen.extend(norm for norm in module.children() if isinstance(norm, _BatchNorm) and not norm.affine)
    return list(dict.fromkeys(frozen))


def updated_norms(model: nn.Module) -> list[nn.Module]:
    """Return the batch norms whose running statistics training updates."""
    frozen = set(frozen_modules(model))
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module not in frozen
    ]


def eval_frozen(model: nn.Module) -> None:
    """Put every frozen module into eval mode. Call it after each `model.train()`, which undoes it."""
    for module in frozen_modules(model):
        module.training = False
