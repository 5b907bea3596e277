"""What may train and what cannot move: freezing by parameter name, batch-norm statistics and dropout included."""

from collections.abc import Iterable

from torch import nn


def freeze_all_but(model: nn.Module, trainable: Iterable[str]) -> None:
    """Let the named parameters train, and no others.

    Raises:
        ValueError: a name is not a parameter of the model, or nothing is left to train.
    """
    chosen = set(trainable)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    unknown = sorted(chosen - parameters.keys())
    if unknown:
        raise ValueError(f"The model has no parameter '{unknown[0]}'. It has {', '.join(parameters)}.")
    if not chosen:
        raise ValueError("Nothing is left to train: choose at least one layer.")
    # A tied parameter has several names, and one of them suffices to train it.
    kept = {id(parameters[name]) for name in chosen}
    for parameter in parameters.values():
        parameter.requires_grad_(id(parameter) in kept)
        parameter.grad = None  # an optimizer would still apply what is left of an earlier step


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules below which nothing trains although there are parameters, and all that they hold.

    These must run in eval mode: `requires_grad=False` alone lets batch-norm statistics drift. A module without
    parameters of its own (an activation, dropout between two layers) follows the container it stands in.
    """
    frozen: list[nn.Module] = []
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            frozen.extend(module.modules())
    return list(dict.fromkeys(frozen))


def eval_frozen(model: nn.Module) -> None:
    """Put every frozen module into eval mode; call it after each `model.train()`, which undoes it."""
    for module in frozen_modules(model):
        module.training = False
