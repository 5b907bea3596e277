"""Where: the named places in a model at which activations flow, and the weight rows that produce each unit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Part = Literal["encoder", "decoder", "cross-attention"]
UNIT_AXIS = {nn.Linear: -1, nn.Conv1d: 1}

# Further modules whose output says by itself where its units are: behind the batch, or last.
_CHANNELS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
_WIDTHS = ("out_features", "out_channels", "num_features", "num_channels", "embedding_dim", "nf")


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


def site_at(
    model: nn.Module,
    name: str,
    unit_axis: int | None = None,
    units: int | None = None,
    part: Part | None = None,
    step: Step | None = None,
) -> Site:
    """Return a site at any module: a transformer block, a norm, an embedding, an activation function.

    Where a module puts out a tuple or a transformers `ModelOutput`, the site is its first tensor, the hidden state.
    `unit_axis` and `units` need not be said of a convolution, a linear map, a norm or an embedding, nor of a
    transformer block, which is as wide as its norms. Units are on axis 1 behind convolutions, batch and group norms,
    else on the last.

    Raises:
        ValueError: there is no such module, or it does not say on which axis its units are, or how many there are.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        near = get_close_matches(name, modules, n=5, cutoff=0.5)
        there = near or [known for known in modules if known][:5]
        raise ValueError(
            f"The model has no module '{name}'. {'Near it are' if near else 'It has, among others,'} "
            f"{', '.join(map(repr, there))}."
        )
    module = modules[name]
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        inside = ", ".join(f"'{name}.{child}'" for child, _ in list(module.named_children())[:3])
        raise ValueError(f"'{name}' is a list of modules, and is never called. Name one of them: {inside}, ...")
    kind = next((axis for kind, axis in UNIT_AXIS.items() if isinstance(module, kind)), None)
    if unit_axis is None:
        unit_axis = kind if kind is not None else _axis(module)
    if unit_axis is None:
        raise ValueError(
            f"'{name}' ({type(module).__name__}) does not say which axis of its output counts units. Give unit_axis: 1 "
            "for (batch, units, time), -1 for (batch, time, units)."
        )
    units = _width(module) if units is None else units
    if units is None:
        raise ValueError(f"'{name}' ({type(module).__name__}) does not say how many units it has. Give units.")
    rows = find_sites(module)[0].rows if kind is not None else ()
    return Site(name, unit_axis, units, tuple(f"{name}{row}" for row in rows), part, step)


def _axis(module: nn.Module) -> int | None:
    # Activation functions keep the layout of what is before them, and only who reads the code knows that.
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
    if not list(module.children()):  # layer and RMS norms: a weight for each unit
        weight = getattr(module, "weight", None)
        return weight.shape[0] if isinstance(weight, Tensor) and weight.dim() == 1 else None
    if not re.search("(Layer|Block)", type(module).__name__):
        return None
    # A residual block puts out what its norms, those within attention apart, bring into shape.
    norms = [
        part
        for path, part in module.named_modules()
        if path
        and not list(part.children())
        and "norm" in type(part).__name__.lower()
        and "att" not in path.rpartition(".")[0].lower()
    ]
    # Without any, it is as wide as its one part with weights.
    norms = norms or [part for part in module.children() if next(part.parameters(), None) is not None]
    widths = {_width(norm) for norm in norms}
    return widths.pop() if len(widths) == 1 else None


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


def length_mask(steps: Tensor, time: int) -> Tensor:
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
    "last 2", "middle" (the middle third), or a list of these. "encoder last 2", "decoder first 1" or "decoder middle"
    count the numbered layers of one part alone (not its embedding), "encoder" and "decoder" are all of it: the layers
    in whose names that word comes first.

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
                f"No layer is called {part!r}. Give numbers, names, globs, 'first N', 'last N' or 'middle', or these "
                f"behind 'encoder' or 'decoder'. Layers: {names}."
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
    own = [number for number, found in enumerate(words) if found[:1] == [part]]
    if not choice:
        return own
    if not re.fullmatch("(first|last) [0-9]+|middle|-?[0-9]+", choice):
        return []
    blocks = [number for number in own if re.search(r"\.[0-9]+$", layers[number].name)]
    return [blocks[number] for number in _numbers([layers[number] for number in blocks], choice)]
