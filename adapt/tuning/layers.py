"""What a tuning may change: all of a model, some of its layers, or its output layer.

A tuning is a function of a model and a `Sample` of the data that says which parameters train, by name.
"""

from collections.abc import Sequence

from adapt.errors import InputError
from adapt.models.model import Model
from adapt.tuning.sample import Sample
from interventions.sites import choose_layers


def full(model: Model, sample: Sample | None = None) -> list[str]:
    """Every parameter."""
    return [name for name, _ in model.named_parameters() if name not in model.never_trained]


def layers(model: Model, layers: str | int | Sequence[str | int], sample: Sample | None = None) -> list[str]:
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


def head(model: Model, sample: Sample | None = None) -> list[str]:
    """The output layer."""
    return layers(model, [model.head])
