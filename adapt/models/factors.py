"""Factors that peft trains beside a frozen weight (LoRA and its kin), and the plain weight that they become.

    names = add_factors(model, ["net.encoder.fc1"], "LORA", {"r": 8, "lora_alpha": 16})
    freeze_all_but(model, names)
    ...                                  # any loop, any optimizer
    merged = merge_factors(model)        # plain modules again, with the factors in their weights
    unmerge_factors(merged)              # their weights as they were, bit for bit

What factors make of a weight is one function of that weight and the factors, `made`, which training's end and loading
share. For LoRA and DoRA it is computed here: in float64, one rank after another by elementwise operations, and rounded
once, so that it is the same on every machine, whatever its library does with sums. For peft's other methods peft does.
"""

import copy
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interventions.bits import fingerprint

NAME = "default"  # peft's own for an adapter that was given none
# Those of peft's methods that can be put on one module by itself, and be merged into it; each is tried in a test.
METHODS = (
    "LORA", "IA3", "LOHA", "LOKR", "HIRA", "OFT", "HRA", "FOURIERFT", "DELORA", "GRALORA", "GLORA", "MISS",
    "C3A", "ROAD", "WAVEFT", "RANDLORA", "SUPERTUNING", "PSOFT", "BEFT", "PEANUT",
)  # fmt: skip
_WHERE = {
    "target_modules", "target_parameters", "exclude_modules", "modules_to_save", "layers_to_transform",
    "layers_pattern", "layer_replication", "trainable_token_indices",
}  # fmt: skip
_DOWN, _UP, _LENGTH = (f"{part}.{NAME}.weight" for part in ("lora_A", "lora_B", "lora_magnitude_vector"))
_KNOWN_OPTIONS = {"r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init_lora_weights"}


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What was trained beside one module: peft's method with its options, and the tensors by peft's names for them.

    `seed` is what random values were drawn from that peft keeps beside the tensors.
    """

    module: str
    method: str
    options: Mapping[str, Any]
    seed: int
    tensors: Mapping[str, Tensor]

    @property
    def exact(self) -> bool:
        """Whether merging gives the same bits on every machine."""
        known = self.tensors.keys() <= {_DOWN, _UP, _LENGTH} and self.options.keys() <= _KNOWN_OPTIONS
        return self.method == "LORA" and known

    @property
    def numbers(self) -> int:
        """How many there are to train."""
        return sum(tensor.numel() for tensor in self.tensors.values())


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Factors that stand in a model's weights: `written` are these, each with a copy of what it was before, and the
    fingerprint of what it became.
    """

    factors: tuple[Factors, ...]
    written: Mapping[str, tuple[nn.Parameter, Tensor, str]]

    @property
    def counts(self) -> dict[str, int]:
        """For each parameter that was written: how many factors stand for it; those of a bias count at the weight."""
        numbers = {one.module: one.numbers for one in self.factors}
        return {name: numbers.pop(name.rpartition(".")[0], 0) for name in self.written}


def add_factors(
    model: nn.Module, modules: Sequence[str], method: str, options: Mapping[str, Any] | None = None, seed: int = 0
) -> list[str]:
    """Put factors beside the weights of these Linear and Conv1d modules; return the names of what then trains.

    Each module is wrapped where it stands by peft's layer for it, and its own parameters are then called
    `base_layer.weight` and `base_layer.bias`. `options` are those of peft's config for the method (`LoraConfig`,
    `IA3Config`, ...), which says what they are; IA3's `feedforward_modules` are names in the model.

    Raises:
        ValueError: peft has no such method or option, or a module cannot have factors, and why; the model is as before.
    """
    options = {**({"lora_alpha": 8} if method == "LORA" else {}), **(options or {})}
    if method not in METHODS:
        raise ValueError(f"There is no method {method!r}. Of peft's these can be merged: {', '.join(METHODS)}.")
    for name in modules:
        if reason := why_not(model, name):
            raise ValueError(reason)
    layers: dict[str, nn.Module] = {}
    for name in modules:
        module = model.get_submodule(name)
        trained = [parameter.requires_grad for parameter in module.parameters()]
        own = dict(options)
        if "feedforward_modules" in own:
            own["feedforward_modules"] = ["layer"] if name in own["feedforward_modules"] else []
        try:
            layers[name] = _wrapped(module, name, method, own, seed)
            layers[name].writes = _changed(layers[name], name)
        except ValueError as error:
            raise ValueError(f"'{name}' cannot have factors by {method}: {error}") from None
        finally:
            for parameter, before in zip(module.parameters(), trained, strict=True):
                parameter.requires_grad_(before)
    names = []
    for name, layer in layers.items():
        _put(model, name, layer)
        names += [f"{name}.{own}" for own, _ in _own(layer) if layer.get_parameter(own).requires_grad]
    return names


@torch.no_grad()
def merge_factors(model: nn.Module) -> Merged:
    """End what `add_factors` began: modules of the original classes and names, with the factors in their weights.

    Whether their parameters train (`requires_grad`) is left as it is.
    """
    factors, written = [], {}
    for name, layer in list(model.named_modules()):
        if not hasattr(layer, "made_by"):
            continue
        one, module = _taken(layer, name), layer.base_layer
        after = made(module, one)
        for kind in layer.writes:
            parameter = getattr(module, kind)
            before = parameter.detach().clone()
            parameter.copy_(after.get(kind, before))
            written[f"{name}.{kind}"] = (parameter, before, fingerprint({kind: parameter}))
        _put(model, name, module)
        factors.append(one)
    return Merged(tuple(factors), written)


@torch.no_grad()
def unmerge_factors(merged: Merged) -> None:
    """Take merged factors out of the weights, which are then what they were before, bit for bit.

    Raises:
        ValueError: a weight has changed since, so that going back would undo that too; nothing was changed.
    """
    for name, (parameter, _, after) in merged.written.items():
        if fingerprint({name.rpartition(".")[2]: parameter}) != after:
            raise ValueError(
                f"'{name}' is not what merge_factors() left: it was trained since, or the factors are out already."
            )
    for parameter, before, _ in merged.written.values():
        parameter.copy_(before)


@torch.no_grad()
def made(module: nn.Module, factors: Factors) -> dict[str, Tensor]:
    """What a module's parameters become by the factors: those that change, by name. The module stays as it is.

    Raises:
        ValueError: the factors are none of such a module, or peft cannot merge them.
    """
    if factors.exact:
        return {"weight": _lora(module.weight, factors)}
    plain = copy.deepcopy(module)
    layer = _wrapped(plain, factors.module, factors.method, factors.options, factors.seed)
    own = dict(_own(layer))
    if {name: tensor.shape for name, tensor in own.items()} != {
        name: tensor.shape for name, tensor in factors.tensors.items()
    }:
        raise ValueError(f"The factors of '{factors.module}' are not those of {factors.method}.")
    for name, tensor in factors.tensors.items():
        own[name].copy_(tensor)
    layer.eval()
    try:
        layer.merge(safe_merge=True)
    except (NotImplementedError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"peft cannot merge it: {' '.join(str(error).split())}") from None
    after = dict(layer.base_layer.named_parameters(recurse=False))
    return {
        name: after[name].detach().clone()
        for name, parameter in module.named_parameters(recurse=False)
        if not torch.equal(parameter, after[name])
    }


def _lora(weight: Tensor, factors: Factors) -> Tensor:
    """`W + scale B A` (Hu et al. 2021, section 4.1), for DoRA with rows of the trained length (Liu et al. 2024, section
    4): float64 throughout, no operation but elementwise ones, and those in a fixed order.
    """
    try:
        tensors = {name: tensor.to(weight.device).double() for name, tensor in factors.tensors.items()}
        down, up, length = tensors[_DOWN].flatten(1), tensors[_UP].flatten(1), tensors.get(_LENGTH)
        options, rank = factors.options, len(down)
        scale = options["lora_alpha"] / (math.sqrt(rank) if options.get("use_rslora") else rank)
        rows = weight.detach().double().flatten(1).clone()
        if down.shape[1] != rows.shape[1] or up.shape != (len(rows), rank):
            raise ValueError
        for into, out in zip(down, up.T, strict=True):
            rows += (out * scale).unsqueeze(1) * into
        if length is not None:
            rows *= (length.reshape(-1) / _sums(rows * rows).sqrt()).unsqueeze(1)
    except (KeyError, TypeError, ValueError, RuntimeError):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in factors.tensors.items())
        raise ValueError(f"The factors of '{factors.module}', {shapes}, do not fit {tuple(weight.shape)}.") from None
    return rows.reshape(weight.shape).to(weight.dtype)


def _sums(rows: Tensor) -> Tensor:
    """The sum of each row, halves added to each other until one number is left: an order that no library changes."""
    while rows.shape[1] > 1:
        half = (rows.shape[1] + 1) // 2
        rest = rows.shape[1] - half
        rows = torch.cat([rows[:, :rest] + rows[:, half:], rows[:, rest:half]], 1)
    return rows[:, 0]


def why_not(model: nn.Module, name: str) -> str | None:
    """Why a module cannot have factors, or None where it can."""
    refused = f"'{name}' cannot have factors: "
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        return f"The model has no module '{name}'."
    module = modules[name]
    if hasattr(module, "made_by"):
        return f"{refused}it has some already."
    if hasattr(module, "rows"):
        return f"{refused}some of its rows train, and merging would change the others too."
    if "weight" not in dict(module.named_parameters(recurse=False)) and hasattr(module, "weight"):
        return f"{refused}its weight is computed from others (weight norm)."
    if type(module) not in (nn.Linear, nn.Conv1d) or "forward" in vars(module):
        return f"{refused}it is a {type(module).__name__}, and no plain Linear or Conv1d."
    if isinstance(module, nn.Conv1d):
        if module.groups > 1:
            return f"{refused}it is a convolution of {module.groups} groups, into which they cannot be merged."
        if module.dilation != (1,) or module.padding_mode != "zeros":
            return f"{refused}peft's have neither its dilation {module.dilation} nor its padding {module.padding_mode}."
    for other, parent in modules.items():
        for kind, parameter in parent.named_parameters(recurse=False):
            if parent is not module and parameter is module.weight:
                return f"{refused}its weight is tied to '{other}.{kind}', which would change when they are merged."
    return None


def _wrapped(module: nn.Module, name: str, method: str, options: Mapping[str, Any], seed: int) -> nn.Module:
    """peft's layer around a module, with factors as they begin. Raises ValueError."""
    from peft import inject_adapter_in_model
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS

    for option, value in options.items():
        # A file's options come here too: plain values only, and nothing that would reach beyond the module.
        plain = value if isinstance(value, (list, tuple)) else [value]
        if option in _WHERE or any(not isinstance(one, (bool, int, float, str, type(None))) for one in plain):
            raise ValueError(
                f"the option {option}={value!r} is none for one module. Give numbers, texts or lists; modules are "
                "chosen as sites."
            )
    before = {kind: parameter.detach().clone() for kind, parameter in module.named_parameters()}
    # In a holder of its own: peft would match names by their ends, freeze the rest, and leave its config behind.
    holder = nn.ModuleDict({"layer": module})
    draw = seed * 1_000_003 + zlib.crc32(name.encode())
    try:
        config = CONFIGS[method](target_modules=["layer"], **options)
        with torch.random.fork_rng():
            torch.manual_seed(draw)
            inject_adapter_in_model(config, holder, adapter_name=NAME)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    layer = holder["layer"]
    if getattr(layer, "base_layer", None) is not module or any(
        not torch.equal(parameter, before[kind]) for kind, parameter in layer.base_layer.named_parameters()
    ):
        with torch.no_grad():
            for kind, parameter in module.named_parameters():
                parameter.copy_(before[kind])
        raise ValueError("with these options it changes the weight that is to stay frozen.")
    for own in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        if hasattr(module, own) and not hasattr(layer, own):
            setattr(layer, own, getattr(module, own))  # networks ask their convolutions for them, as Whisper does
    layer.made_by = (method, dict(options), seed)
    return layer


@torch.no_grad()
def _changed(layer: nn.Module, name: str) -> list[str]:
    """Which parameters factors change when they are merged.

    Raises:
        ValueError: peft does not merge them, or into something else than what the layer gives in training.
    """
    if _taken(layer, name).exact:
        return ["weight"]
    moved = copy.deepcopy(layer).eval()
    draw = torch.Generator().manual_seed(0)
    for _, parameter in _own(moved):
        noise = torch.randn(parameter.shape, generator=draw).to(parameter)
        parameter.add_(0.05 * noise)
    module = moved.base_layer
    linear = isinstance(module, nn.Linear)
    sizes = (4, module.in_features) if linear else (1, module.in_channels, 4 * module.kernel_size[0])
    x = torch.randn(sizes, generator=draw).to(module.weight)
    try:
        beside = moved(x)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(f"peft cannot run it: {' '.join(str(error).split())}") from None
    alone, after = copy.deepcopy(module), made(module, _taken(moved, name))
    for kind, tensor in after.items():
        getattr(alone, kind).copy_(tensor)
    if not torch.allclose(alone(x), beside, rtol=0, atol=1e-3 * float(beside.abs().max())):
        raise ValueError("merged, it gives something else than in training.")
    return list(after)


def _taken(layer: nn.Module, name: str) -> Factors:
    method, options, seed = layer.made_by
    tensors = {own: parameter.detach().clone() for own, parameter in _own(layer)}
    return Factors(name, method, options, seed, tensors)


def _own(layer: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, own) for name, own in layer.named_parameters() if not name.startswith("base_layer.")]


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
