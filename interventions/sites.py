"""Where: the named places in a model at which activations flow, and the weight rows that produce each unit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Part = Literal["encoder", "decoder", "cross-attention"]
UNIT_AXIS = {nn.Linear: -1, nn.Conv1d: 1}


@dataclass(frozen=True, slots=True)
class Step:
    """What one step along a time axis lasts: `length` in seconds (`unit` "s"), or in tokens of text ("token")."""

    length: float
    unit: Literal["s", "token"]


TOKEN = Step(1, "token")


@dataclass(frozen=True, slots=True)
class Site:
    """The output of one module.

    `unit_axis` is the axis of that output which counts units: 1 for a convolution's `(batch, units, time)`, -1 for a
    linear layer's `(batch, time, units)`. Unit `u` is made by row `u` of the parameters in `rows`: its weights, and its
    bias where there is one. There are none where the weight is computed from others (weight norm) and a row of those
    does not belong to one unit.

    `part` says where in the model it is, and `step` what one step of its time axis lasts (the axis that counts neither
    units nor the batch). Only who wraps a model knows them; they are None where nobody said.
    """

    name: str
    unit_axis: int
    units: int
    rows: tuple[str, ...]
    part: Part | None = None
    step: Step | None = None


def find_sites(model: nn.Module, pattern: str = "*") -> list[Site]:
    """Return the sites at each Linear and Conv1d whose module path matches the glob `pattern`, in the model's order."""
    sites = []
    for name, module in model.named_modules():
        axis = next((axis for kind, axis in UNIT_AXIS.items() if isinstance(module, kind)), None)
        if axis is not None and fnmatchcase(name, pattern):
            own = {kind for kind, _ in module.named_parameters(recurse=False, remove_duplicate=False)}
            rows = tuple(f"{name}.{kind}" for kind in ("weight", "bias") if kind in own)
            sites.append(Site(name, axis, module.weight.shape[0], rows if "weight" in own else ()))
    return sites


def choose_sites(sites: Sequence[Site], pattern: str | Sequence[str] = "*", part: Part | None = None) -> list[Site]:
    """Return the sites whose name matches the glob, or one of several, and which are in that part; None: in any.

    Raises:
        ValueError: there is none; the message lists the parts or the sites there are.
    """
    parts = list(dict.fromkeys(site.part for site in sites))
    if part is not None and part not in parts:
        raise ValueError(
            f"No site is in the part {part!r}. Parts are called {', '.join(get_args(Part))}; this model has "
            f"{', '.join(map(str, parts)) or 'none'}."
        )
    there = [site for site in sites if part in (None, site.part)]
    patterns = [pattern] if isinstance(pattern, str) else [str(one) for one in pattern]
    chosen = [site for site in there if any(fnmatchcase(site.name, one) for one in patterns)]
    if not chosen:
        names = ", ".join(site.name for site in there)
        raise ValueError(f"No site matches {', '.join(map(repr, patterns)) or 'nothing'}. Give globs over: {names}.")
    return chosen


def own_mask(steps: Tensor, time: int) -> Tensor:
    """Which of `time` steps are an utterance's own: bool `(batch, time)`, True in the first `steps` `(batch,)`."""
    return torch.arange(time, device=steps.device) < steps.unsqueeze(1)


@dataclass(frozen=True, slots=True)
class Layer:
    """A step of a model's own counting, and all modules that belong to it.

    A convolution's batch norm belongs to its layer, so that freezing the layer freezes the statistics too. `site` is
    the one whose units are looked at where one stands for the layer; empty: the layer is named after it.
    """

    name: str
    modules: tuple[str, ...]
    site: str = ""


def choose_layers(layers: Sequence[Layer], choice: object) -> list[Layer]:
    """Return the layers that `choice` names, in the model's order.

    `choice` is a number (0 is the layer next to the input, -1 the last), a name, a glob over names, "first 3",
    "last 2", "middle" (the middle third), or a list of these.

    Raises:
        ValueError: a part of the choice names no layer; the message lists the layers there are.
    """
    parts = [choice] if isinstance(choice, (str, int)) or not isinstance(choice, Sequence) else choice
    chosen: set[int] = set()
    for part in parts or [None]:
        found = _numbers(layers, part)
        if not found:
            names = ", ".join(f"{number}: {layer.name}" for number, layer in enumerate(layers))
            raise ValueError(
                f"No layer is called {part!r}. Give numbers, names, globs, 'first N', 'last N' or 'middle'. "
                f"Layers: {names}."
            )
        chosen |= set(found)
    return [layers[number] for number in sorted(chosen)]


def _numbers(layers: Sequence[Layer], part: object) -> list[int]:
    total = len(layers)
    everything = list(range(total))
    if isinstance(part, bool):
        return []
    if isinstance(part, int):
        return [part % total] if -total <= part < total else []
    words = str(part).split()
    if words and words[0] in ("first", "last"):
        if len(words) != 2 or not re.fullmatch("[0-9]+", words[1]) or not 0 < int(words[1]) <= total:
            return []
        return everything[: int(words[1])] if words[0] == "first" else everything[total - int(words[1]) :]
    if words == ["middle"]:
        third = max(1, round(total / 3))
        start = (total - third) // 2
        return everything[start : start + third]
    if re.fullmatch("-?[0-9]+", str(part)):
        return _numbers(layers, int(str(part)))
    return [number for number, layer in enumerate(layers) if fnmatchcase(layer.name, str(part))]
