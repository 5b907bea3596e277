"""Discriminative learning rates: a factor per layer, falling towards the input (Howard and Ruder 2018) or given."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from adapt.checks import check_number
from adapt.errors import InputError
from adapt.models.model import Model
from interventions.sites import Layer, choose_layers


def layer_rates(
    model: Model,
    trained: Sequence[str],
    decay: float = 1.0,
    rates: Mapping[str | int, float] | None = None,
    measured: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Compute the learning-rate factor of each trained parameter: the product of `decay`, `rates` and `measured`.

    Args:
        model: The model that has the parameters.
        trained: The names of the trained parameters.
        decay: Factor 1 at the highest trained layer, multiplied by `decay` for each layer below, whether it trains or
            not (1 / 2.6 in the paper).
        rates: Factors by layer, as `choose_layers` finds them, or by globs over parameter names. If several match a
            parameter, the last one counts.
        measured: Factors by layer name (`adapt.tuning.surgical.auto_rgn`).

    Returns:
        The factor of each parameter, by name.

    Raises:
        InputError: a factor is negative or not finite, or a key of `rates` matches nothing that trains.
    """
    if not isinstance(rates, (Mapping, type(None))):
        raise InputError(
            f"rates must be factors by layer or parameter, such as '{{first 3: 0.1}}', or auto, or null; got {rates!r}."
        )
    for what, factor in (("layer_decay", decay), *((f"rates.{key}", value) for key, value in (rates or {}).items())):
        check_number(what, factor, minimum=0)
    layers = model.layers
    places = _layer_numbers(layers, trained)
    top = max(places.values())
    requested = {name: 1.0 for name in trained}
    for key, factor in (rates or {}).items():
        names = _matching(layers, places, key)
        if not names:
            known = ", ".join(f"{number}: {layer.name}" for number, layer in enumerate(layers))
            raise InputError(
                f"rates: {key!r} matches no layer and no parameter that trains. Give numbers, names or globs of layers "
                f"({known}), 'first N', 'last N', or globs of parameters such as '*.bias'."
            )
        requested |= dict.fromkeys(names, float(factor))
    by_layer = [(measured or {}).get(layer.name, 1.0) for layer in layers]
    return {name: decay ** (top - place) * requested[name] * by_layer[place] for name, place in places.items()}


def layer_numbers(model: Model, parameters: Iterable[str]) -> dict[str, int]:
    """Return the layer number of each parameter, by name. Added factors belong to the layer of the weight they modify.

    Raises:
        InputError: a parameter is in no layer.
    """
    return _layer_numbers(model.layers, parameters)


def _layer_numbers(layers: Sequence[Layer], parameters: Iterable[str]) -> dict[str, int]:
    # A model builds its list of layers anew each time, which takes 60 ms for Whisper large.
    owners = {name: number for number, layer in enumerate(layers) for name in layer.modules}
    numbers: dict[str, int] = {}
    for parameter in parameters:
        module = parameter.rpartition(".")[0]
        while module and module not in owners:
            module = module.rpartition(".")[0]
        if module not in owners:
            raise InputError(f"The model has no layer with the parameter '{parameter}'.")
        numbers[parameter] = owners[module]
    return numbers


def _matching(layers: Sequence[Layer], places: Mapping[str, int], key: str | int) -> list[str]:
    try:
        chosen = {layer.name for layer in choose_layers(layers, key)}
    except ValueError:
        return [name for name in places if fnmatchcase(name, str(key))]
    return [name for name, place in places.items() if layers[place].name in chosen]
