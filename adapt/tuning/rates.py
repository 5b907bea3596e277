"""Discriminative learning rates: factors by layer, smaller towards the input (Howard and Ruder 2018), or as given."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from adapt.checks import check_number
from adapt.errors import InputError
from adapt.models.model import Model
from interventions.sites import choose_layers


def layer_rates(
    model: Model,
    trained: Sequence[str],
    decay: float = 1.0,
    rates: Mapping[str | int, float] | None = None,
    measured: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """What the learning rate of each of the `trained` parameters is multiplied by.

    The highest layer that trains has 1, and each layer below it `decay` times what the layer above it has, also where
    layers between do not train (the paper's is 1 / 2.6). `rates` are further factors, by layers as `choose_layers`
    finds them, or by globs over names of parameters; where several fit a parameter, the last counts. `measured` are
    factors besides, by the name of the layer (`adapt.tuning.surgical.auto_rgn`).

    Raises:
        InputError: a factor is no number from 0 on, or one of `rates` fits nothing that trains.
    """
    if not isinstance(rates, (Mapping, type(None))):
        raise InputError(
            f"rates are factors by layer or parameter, as '{{first 3: 0.1}}', or auto, or null; got {rates!r}."
        )
    for what, factor in (("layer_decay", decay), *((f"rates.{key}", value) for key, value in (rates or {}).items())):
        check_number(what, factor, minimum=0)
    places = {name: layer_of(model, name) for name in trained}
    top = max(places.values())
    asked = {name: 1.0 for name in trained}
    for key, factor in (rates or {}).items():
        names = _named(model, places, key)
        if not names:
            known = ", ".join(f"{number}: {layer.name}" for number, layer in enumerate(model.layers))
            raise InputError(
                f"rates: {key!r} fits no layer and no parameter that trains. Give numbers, names or globs of layers "
                f"({known}), 'first N', 'last N', or globs of parameters such as '*.bias'."
            )
        asked |= dict.fromkeys(names, float(factor))
    found = [(measured or {}).get(layer.name, 1.0) for layer in model.layers]
    return {name: decay ** (top - place) * asked[name] * found[place] for name, place in places.items()}


def layer_of(model: Model, parameter: str) -> int:
    """The number of the layer that a parameter is in, or a module around it: a factor that stands beside a weight."""
    module = parameter.rpartition(".")[0]
    owners = {name: number for number, layer in enumerate(model.layers) for name in layer.modules}
    while module and module not in owners:
        module = module.rpartition(".")[0]
    if module not in owners:
        raise InputError(f"The model has no layer with the parameter '{parameter}'.")
    return owners[module]


def _named(model: Model, places: Mapping[str, int], key: str | int) -> list[str]:
    try:
        chosen = {layer.name for layer in choose_layers(model.layers, key)}
    except ValueError:
        return [name for name in places if fnmatchcase(name, str(key))]
    return [name for name, place in places.items() if model.layers[place].name in chosen]
