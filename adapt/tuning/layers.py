"""What a tuning may change: all of a model, some of its layers, or its output layer."""

from collections.abc import Sequence

from torch import nn

from adapt.errors import InputError
from interventions.sites import choose_layers


def full(model: nn.Module) -> list[str]:
    """Every parameter."""
    return [name for name, _ in model.named_parameters()]


def layers(model: nn.Module, layers: str | int | Sequence[str | int]) -> list[str]:
    """The parameters of the layers that `interventions.sites.choose_layers` finds: their weights, biases and norms.

    Raises:
        InputError: a part of the choice names no layer.
    """
    try:
        chosen = choose_layers(model.layers, layers)
    except ValueError as error:
        raise InputError(f"tuning.layers: {error}") from None
    modules = {module for layer in chosen for module in layer.modules}
    return [name for name, _ in model.named_parameters() if name.rpartition(".")[0] in modules]


def head(model: nn.Module) -> list[str]:
    """The output layer."""
    return layers(model, [-1])
