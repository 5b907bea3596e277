"""Combine several tunings in one run: for example neurons of the encoder, LoRA in the decoder, and the whole head."""

from collections.abc import Mapping
from functools import partial

from torch import nn

from adapt.data.selection import Selection
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.factors import factor_method
from adapt.models.model import Model
from adapt.tuning.lora import lora, peft
from adapt.tuning.neurons import neurons
from adapt.tuning.tuned import Tuned, Tuning


def mix(model: Model, data: TuningData | None = None, parts: Mapping[str, Tuning] | None = None) -> Tuned:
    """Train what all the parts train. A batch norm updates its statistics if the parts train it as a whole.

    Several parts may train the same parameter as a whole. A parameter that one part trains by rows or factors may not
    be trained by another part.

    Raises:
        InputError: there are no parts, a part fails, or two parts train one parameter in ways that exclude each other.
    """
    if not isinstance(parts, Mapping) or not parts or not all(map(callable, parts.values())):
        raise InputError(
            "tuning=mix needs parts: +tuning@tuning.parts.NAME=TUNING for each, with options such as "
            "tuning.parts.NAME.layers=..."
        )
    trained: dict[str, nn.Parameter] = {}
    selections: dict[str, Selection] = {}
    owners: dict[str, tuple[str, bool]] = {}  # by weight: the part that trains it, and whether as a whole
    for name, part in sorted(parts.items(), key=lambda item: _order(item[1])):
        try:
            tuned = part(model, None if data is None else data.of_part(name))
        except InputError as error:
            raise InputError(f"tuning.parts.{name}: {error}{_conflicts(str(error), owners)}") from None
        for inner, selection in tuned.selections.items():
            selections[f"{name}-{inner}" if inner else name] = selection
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for chosen in tuned.names:
            weights, whole = _weights(model, chosen)
            for weight in weights:
                other, both = owners.setdefault(weight, (name, whole))
                if other != name and not (both and whole):
                    raise InputError(
                        f"tuning.parts.{name} and tuning.parts.{other} both train '{weight}', and at least one of them "
                        "trains only rows or factors of it. Exclude it from one part with sites= or layers=."
                    )
            trained[chosen] = parameters[chosen]
    # By identity: a later part may have wrapped a module in factors, which changes the names of its parameters.
    kept = {id(parameter) for parameter in trained.values()}
    return Tuned(tuple(name for name, parameter in model.named_parameters() if id(parameter) in kept), selections)


def _order(part: Tuning) -> int:
    # Parts that train rows come after those that train whole weights: once some rows of a layer train, its other rows
    # cannot be scored, and a measure over all layers would skip the layer. Factors come last, because they rename the
    # parameters that other parts choose by name.
    function = part.func if isinstance(part, partial) else part
    if function in (lora, peft):
        return 2
    return 1 if function is neurons else 0


def _weights(model: Model, name: str) -> tuple[list[str], bool]:
    """Return the base model's parameters that `name` trains, and whether as a whole (not by rows or factors)."""
    path = name.split(".")
    for end in range(1, len(path)):
        module = model.get_submodule(".".join(path[:end]))
        method = factor_method(module)
        if method is not None and path[end] != "base_layer":
            kinds = ["weight"] if method == "LORA" else ["weight", "bias"]  # IA3 scales both
            return [".".join([*path[:end], kind]) for kind in kinds], False
    module_name, _, kind = name.rpartition(".")
    if kind in ("rows", "row_bias") and hasattr(model.get_submodule(module_name), "rows"):
        return [f"{module_name}.{'weight' if kind == 'rows' else 'bias'}"], False
    return [name.replace(".base_layer.", ".")], True


def _conflicts(message: str, owners: Mapping[str, tuple[str, bool]]) -> str:
    by_module = {weight.rpartition(".")[0]: part for weight, (part, _) in owners.items()}
    found = sorted(
        {f"tuning.parts.{part} trains '{module}'" for module, part in by_module.items() if f"'{module}'" in message}
    )
    return f" ({'; '.join(found)}.)" if found else ""
