"""What a tuning may change: all of a model, some of its layers, or its output layer."""

from collections.abc import Sequence

from adapt.errors import InputError
from adapt.models.model import Model
from interventions.sites import choose_layers


def full(model: Model) -> list[str]:
    """Every parameter."""
    return [name for name, _ in model.named_parameters() if name not in model.never_trained]


def layers(model: Model, layers: str | int | Sequence[str | int]) -> list[str]:
    """The parameters of the layers that `interventions.sites.choose_layers` finds: their weights, biases and norms.

    Raises:
        InputError: a part of the choice names no layer.
    """
    try:
        chosen = choose_layers(model.layers, layers)
    except ValueError as error:
        raise InputError(f"tuning.layers: {error}") from None
    modules = {module for layer in chosen for module in layer.modules}
    return [name for name in full(model) if name.rpartition(".")[0] in modules]


def head(model: Model) -> list[str]:
    """The output layer."""
    return layers(model, [model.head])
