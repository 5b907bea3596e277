"""Sites: the named places in a model at which activations flow, and the weight rows that compute each unit."""

# torch has no annotations for named_modules, and the base classes of convolutions and norms are private.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

Part = Literal["encoder", "decoder", "cross-attention"]
UNIT_AXIS: dict[type[nn.Module], int] = {nn.Linear: -1, nn.Conv1d: 1}

# Modules whose output has its units on axis 1, and the attributes that hold a module's number of units.
_CHANNELS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
_WIDTHS = ("out_features", "out_channels", "num_features", "num_channels", "embedding_dim", "nf")


@dataclass(frozen=True, slots=True)
class Step:
    """The duration of one step on a time axis: `length` in seconds (unit "s") or in text tokens (unit "token")."""

    length: float
    unit: Literal["s", "token"]


TOKEN = Step(1, "token")


@dataclass(frozen=True, slots=True)
class Site:
    """The output of one module.

    Args:
        name: path of the module in the model.
        unit_axis: the axis of the output along which units are numbered: 1 for a convolution's `(batch, units, time)`,
            -1 for a linear layer's `(batch, time, units)`.
        units: number of units.
        rows: names of the parameters (weight, and bias if there is one) whose row `u` computes unit `u`. Empty if the
            weight is computed from others (weight norm), because a row then does not belong to one unit.
        part: the part of the model; None if unknown.
        step: the duration of a step on the time axis (the axis that is neither batch nor units); None if unknown.
    """

    name: str
    unit_axis: int
    units: int
    rows: tuple[str, ...]
    part: Part | None = None
    step: Step | None = None


def find_sites(model: nn.Module, pattern: str = "*") -> list[Site]:
    """Return the sites of all Linear and Conv1d modules whose path matches the glob `pattern`, in the model's order."""
    sites: list[Site] = []
    for name, module in model.named_modules():
        axis = _known_axis(module)
        if axis is not None and fnmatchcase(name, pattern):
            parameters = {kind for kind, _ in module.named_parameters(recurse=False, remove_duplicate=False)}
            rows = tuple(f"{name}.{kind}" for kind in ("weight", "bias") if kind in parameters)
            units = cast(Tensor, module.weight).shape[0]
            sites.append(Site(name, axis, units, rows if "weight" in parameters else ()))
    return sites


def site_at(
    model: nn.Module,
    name: str,
    unit_axis: int | None = None,
    units: int | None = None,
    part: Part | None = None,
    step: Step | None = None,
) -> Site:
    """Return the site of any module: a transformer block, a norm, an embedding, an activation function.

    If the module returns a tuple or a transformers `ModelOutput`, the site is its first tensor, the hidden state.

    Args:
        model: the model that contains the module.
        name: path of the module.
        unit_axis: axis of the output along which units are numbered. None: 1 for convolutions, batch and group norms,
            -1 for other modules with weights.
        units: number of units. None: the size of the convolution, linear layer, norm or embedding; for a transformer
            block, the size of its norms.
        part: see `Site`.
        step: see `Site`.

    Raises:
        ValueError: If there is no such module, or its unit axis or number of units cannot be inferred.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        close = get_close_matches(name, modules, n=5, cutoff=0.5)
        names = close or [known for known in modules if known][:5]
        hint = "Similar names:" if close else "Some of its modules:"
        raise ValueError(f"The model has no module '{name}'. {hint} {', '.join(map(repr, names))}.")
    module = modules[name]
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        children = ", ".join(f"'{name}.{child}'" for child, _ in list(module.named_children())[:3])
        raise ValueError(f"'{name}' is a list of modules, which is never called. Name one of them: {children}, ...")
    known_axis = _known_axis(module)
    if unit_axis is None:
        unit_axis = known_axis if known_axis is not None else _axis(module)
    if unit_axis is None:
        raise ValueError(
            f"The axis of the units of '{name}' ({type(module).__name__}) cannot be inferred. Give unit_axis: 1 for "
            "(batch, units, time), -1 for (batch, time, units)."
        )
    units = _width(module) if units is None else units
    if units is None:
        raise ValueError(f"The number of units of '{name}' ({type(module).__name__}) cannot be inferred. Give units.")
    rows = find_sites(module)[0].rows if known_axis is not None else ()
    return Site(name, unit_axis, units, tuple(f"{name}{row}" for row in rows), part, step)


def _known_axis(module: nn.Module) -> int | None:
    return next((axis for kind, axis in UNIT_AXIS.items() if isinstance(module, kind)), None)


def _axis(module: nn.Module) -> int | None:
    # The output of a module without weights, such as an activation function, is laid out like its input, which is
    # unknown here.
    leaves = [leaf for leaf in module.modules() if next(leaf.parameters(recurse=False), None) is not None]
    channels = [isinstance(leaf, _CHANNELS) for leaf in leaves]
    if not leaves or (any(channels) and not all(channels)):
        return None
    return 1 if all(channels) else -1


def _width(module: nn.Module) -> int | None:
    for name in _WIDTHS:
        width = getattr(module, name, None)
        if isinstance(width, int):
            return width
    if not list(module.children()):  # layer and RMS norms have a weight for each unit
        weight = getattr(module, "weight", None)
        return weight.shape[0] if isinstance(weight, Tensor) and weight.dim() == 1 else None
    if not re.search("(Layer|Block)", type(module).__name__):
        return None
    # A residual block is as wide as its norms, except norms within attention.
    parts: list[nn.Module] = []
    for path, part in module.named_modules():
        is_norm = path and not list(part.children()) and "norm" in type(part).__name__.lower()
        if is_norm and "att" not in path.rpartition(".")[0].lower():
            parts.append(part)
    if not parts:  # without norms, it is as wide as its only child with weights
        parts = [child for child in module.children() if next(child.parameters(), None) is not None]
    widths = {_width(part) for part in parts}
    return widths.pop() if len(widths) == 1 else None


def choose_sites(sites: Sequence[Site], pattern: str | Sequence[str] = "*", part: Part | None = None) -> list[Site]:
    """Return the sites whose name matches a glob, or one of several globs, in one part of the model (None: all).

    Raises:
        ValueError: If no site matches; the message lists the available parts or sites.
    """
    parts = list(dict.fromkeys(site.part for site in sites))
    if part is not None and part not in parts:
        raise ValueError(
            f"No site is in the part {part!r}. Parts are called {', '.join(get_args(Part))}; this model has "
            f"{', '.join(map(str, parts)) or 'none'}."
        )
    available = [site for site in sites if part in (None, site.part)]
    patterns = [pattern] if isinstance(pattern, str) else [str(one) for one in pattern]
    chosen = [site for site in available if any(fnmatchcase(site.name, one) for one in patterns)]
    if not chosen:
        names = ", ".join(site.name for site in available)
        raise ValueError(f"No site matches {', '.join(map(repr, patterns)) or 'nothing'}. Give globs over: {names}.")
    return chosen


def length_mask(lengths: Tensor, time: int) -> Tensor:
    """Return the bool mask `(batch, time)` that is True in the first `lengths` `(batch,)` steps of each example."""
    return torch.arange(time, device=lengths.device) < lengths.unsqueeze(1)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, in the model's own numbering of layers, with all modules that belong to it.

    A convolution's batch norm belongs to the convolution's layer, so that freezing the layer freezes its statistics.

    Args:
        name: name of the layer.
        modules: paths of its modules.
        site: name of the site that represents the layer; empty: the layer's name.
    """

    name: str
    modules: tuple[str, ...]
    site: str = ""


def choose_layers(layers: Sequence[Layer], choice: object) -> list[Layer]:
    """Return the layers that `choice` names, in the model's order.

    `choice` is a number (0 is the layer next to the input, -1 the last), a name, a glob over names, "first 3",
    "last 2", "middle" (the middle third), or a list of these. "encoder" and "decoder" select the layers in whose name
    that word occurs before the other; "encoder last 2", "decoder first 1" or "decoder middle" count only the numbered
    layers of that part, not its embedding.

    Raises:
        ValueError: If a part of the choice matches no layer; the message lists the layers.
    """
    if isinstance(choice, (str, int)) or not isinstance(choice, Sequence):
        parts: list[Any] = [choice]
    else:
        parts = list(cast(Iterable[Any], choice))
    chosen: set[int] = set()
    for part in parts or [None]:
        numbers = _numbers(layers, part)
        if not numbers:
            names = ", ".join(f"{number}: {layer.name}" for number, layer in enumerate(layers))
            raise ValueError(
                f"No layer matches {part!r}. Give numbers, names, globs, 'first N', 'last N' or 'middle', or these "
                f"after 'encoder' or 'decoder'. Layers: {names}."
            )
        chosen |= set(numbers)
    return [layers[number] for number in sorted(chosen)]


def _numbers(layers: Sequence[Layer], part: object) -> list[int]:
    total = len(layers)
    everything = list(range(total))
    if isinstance(part, bool):
        return []
    if isinstance(part, int):
        return [part % total] if -total <= part < total else []
    words = str(part).split()
    if words and words[0] in ("encoder", "decoder"):
        return _numbers_of_part(layers, words[0], " ".join(words[1:]))
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


def _numbers_of_part(layers: Sequence[Layer], part: str, choice: str) -> list[int]:
    words = [re.findall("encoder|decoder", layer.name) for layer in layers]
    in_part = [number for number, found in enumerate(words) if found[:1] == [part]]
    if not choice:
        return in_part
    if not re.fullmatch("(first|last) [0-9]+|middle|-?[0-9]+", choice):
        return []
    blocks = [number for number in in_part if re.search(r"\.[0-9]+$", layers[number].name)]
    return [blocks[number] for number in _numbers([layers[number] for number in blocks], choice)]
