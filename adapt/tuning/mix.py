"""Several tunings in one run: say, rows of the upper encoder, LoRA in the decoder, and the head whole."""

from collections.abc import Callable, Mapping

from torch import nn

from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.model import Model
from adapt.tuning.lora import lora, peft
from adapt.tuning.neurons import neurons


def mix(model: Model, parts: Mapping[str, Callable[..., list[str]]], sample: TuningData | None = None) -> list[str]:
    """All that the parts train, each of them a tuning with its options.

    Where two parts let a parameter train as a whole, it does. What one trains by rows or factors no other may train.

    Raises:
        InputError: there are no parts, one of them cannot be done, or two train one weight in ways that exclude each
            other; both are named.
    """
    if not isinstance(parts, Mapping) or not parts or not all(map(callable, parts.values())):
        raise InputError(
            "tuning=mix needs parts: +tuning@tuning.parts.NAME=TUNING for each, with options as "
            "tuning.parts.NAME.layers=..."
        )
    trained: dict[str, nn.Parameter] = {}
    owners: dict[str, tuple[str, bool]] = {}  # of a weight: the part, and whether it trains the whole of it
    for name, part in sorted(parts.items(), key=lambda item: _turn(item[1])):
        try:
            chosen = part(model, sample=None if sample is None else sample.of_part(name))
        except InputError as error:
            raise InputError(f"tuning.parts.{name}: {error}{_whose(str(error), owners)}") from None
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for own in chosen:
            weights, whole = _weights(model, own)
            for weight in weights:
                other, both = owners.setdefault(weight, (name, whole))
                if other != name and not (both and whole):
                    raise InputError(
                        f"tuning.parts.{name} and tuning.parts.{other} both train '{weight}', and not both the whole "
                        "of it. Leave it out of one of them, by sites= or layers=."
                    )
            trained[own] = parameters[own]
    # By what they are: a module with factors is one level further down.
    kept = {id(parameter) for parameter in trained.values()}
    return [name for name, parameter in model.named_parameters() if id(parameter) in kept]


def _turn(part: Callable[..., list[str]]) -> int:
    # Rows come after what trains whole: where some train, no others can be scored, and a measure of all layers would
    # find none there. Factors come last: they give new names to what others choose by name.
    kind = getattr(part, "func", part)
    return 2 if kind in (lora, peft) else 1 if kind is neurons else 0


def _weights(model: Model, name: str) -> tuple[list[str], bool]:
    """The parameters of the plain model that a trained one is, or changes, and whether it is the whole of one."""
    path = name.split(".")
    for end in range(1, len(path)):
        module = model.get_submodule(".".join(path[:end]))
        if hasattr(module, "made_by") and path[end] != "base_layer":
            kinds = ["weight"] if module.made_by[0] == "LORA" else ["weight", "bias"]  # IA3 scales both
            return [".".join([*path[:end], kind]) for kind in kinds], False
    module, _, kind = name.rpartition(".")
    if kind in ("rows", "row_bias") and hasattr(model.get_submodule(module), "rows"):
        return [f"{module}.{'weight' if kind == 'rows' else 'bias'}"], False
    return [name.replace(".base_layer.", ".")], True


def _whose(said: str, owners: Mapping[str, tuple[str, bool]]) -> str:
    named = {weight.rpartition(".")[0]: part for weight, (part, _) in owners.items()}
    found = sorted(
        {f"tuning.parts.{part} trains '{module}'" for module, part in named.items() if f"'{module}'" in said}
    )
    return f" ({'; '.join(found)}.)" if found else ""
