"""Freezing: choose by name which parameters train, and keep frozen modules in eval mode."""

from collections.abc import Iterable

from torch import nn


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
    """Return the modules whose parameters, including those of child modules, are all frozen, and all their children.

    These modules must run in eval mode, because `requires_grad=False` alone does not stop batch-norm statistics from
    drifting. A module without parameters (an activation, a dropout) follows the module that contains it.
    """
    frozen: list[nn.Module] = []
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            frozen.extend(module.modules())
    return list(dict.fromkeys(frozen))


def eval_frozen(model: nn.Module) -> None:
    """Put every frozen module into eval mode. Call it after each `model.train()`, which undoes it."""
    for module in frozen_modules(model):
        module.training = False
