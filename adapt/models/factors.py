"""Train peft's low-rank and other factors (LoRA, DoRA, ...) next to frozen weights, and merge them.

    names = add_factors(model, ["net.encoder.fc1"], "LORA", {"r": 8, "lora_alpha": 16})
    freeze_all_but(model, names)
    ...                                  # any training loop and optimizer
    merged = merge_factors(model)        # plain modules again, with the factors merged into their weights
    unmerge_factors(merged)              # the original weights, bit for bit

`merged_weights` computes a merged weight from the base weight and the factors, both at the end of training and when an
adaptation is loaded. For LoRA and DoRA the computation is done here, in float64 and by elementwise operations in a
fixed order with a single rounding, which makes the result identical on every machine. Other methods are merged by peft.
"""

import copy
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interventions.bits import fingerprint

NAME = "default"  # peft's default name of an adapter
# peft's methods that apply to a single module and can be merged into it; a test tries each.
METHODS = (
    "LORA", "IA3", "LOHA", "LOKR", "HIRA", "OFT", "HRA", "FOURIERFT", "DELORA", "GRALORA", "GLORA", "MISS",
    "C3A", "ROAD", "WAVEFT", "RANDLORA", "SUPERTUNING", "PSOFT", "BEFT", "PEANUT",
)  # fmt: skip
_SELECTING_OPTIONS = {
    "target_modules", "target_parameters", "exclude_modules", "modules_to_save", "layers_to_transform",
    "layers_pattern", "layer_replication", "trainable_token_indices",
}  # fmt: skip
DOWN, UP, LENGTH = (f"{part}.{NAME}.weight" for part in ("lora_A", "lora_B", "lora_magnitude_vector"))
_KNOWN_OPTIONS = {"r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init_lora_weights"}


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """The trained factors of one module.

    Args:
        module: The module's name in the model.
        method: peft's name of the method, such as "LORA".
        options: The options of peft's config for the method.
        seed: The seed of the random values that some methods use besides the trained tensors.
        tensors: The trained tensors by peft's names.
    """

    module: str
    method: str
    options: Mapping[str, Any]
    seed: int
    tensors: Mapping[str, Tensor]

    @property
    def exact(self) -> bool:
        """Whether merging gives bit-identical weights on every machine."""
        known = self.tensors.keys() <= {DOWN, UP, LENGTH} and self.options.keys() <= _KNOWN_OPTIONS
        return self.method == "LORA" and known

    @property
    def numbers(self) -> int:
        """The number of trained values."""
        return sum(tensor.numel() for tensor in self.tensors.values())


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Factors that were merged into a model's weights.

    Args:
        factors: The factors.
        written: For each merged parameter, by name: the parameter, a copy of its old values, and its new fingerprint.
    """

    factors: tuple[Factors, ...]
    written: Mapping[str, tuple[nn.Parameter, Tensor, str]]

    @property
    def counts(self) -> dict[str, int]:
        """The number of trained values by merged parameter; a module's values are all counted at its first one."""
        numbers = {one.module: one.numbers for one in self.factors}
        return {name: numbers.pop(name.rpartition(".")[0], 0) for name in self.written}


def add_factors(
    model: nn.Module, modules: Sequence[str], method: str, options: Mapping[str, Any] | None = None, seed: int = 0
) -> list[str]:
    """Add trainable factors to Linear and Conv1d modules, and return the names of the new parameters.

    Each module is replaced by peft's layer around it; its own parameters are then called `base_layer.weight` and
    `base_layer.bias`. If an error is raised, the model is unchanged.

    Args:
        model: The model to change.
        modules: The names of the modules.
        method: One of `METHODS`.
        options: Options of peft's config for the method (`LoraConfig`, `IA3Config`, ...). IA3's `feedforward_modules`
            are names in the model.
        seed: The seed of the initial values.

    Raises:
        ValueError: peft has no such method or option, or a module cannot have factors.
    """
    options = {**({"lora_alpha": 8} if method == "LORA" else {}), **(options or {})}
    if method not in METHODS:
        raise ValueError(f"method must be a method of peft that can be merged ({', '.join(METHODS)}), got {method!r}.")
    for reason in why_not(model, modules).values():
        raise ValueError(reason)
    layers: dict[str, Any] = {}  # peft's layers
    for name in modules:
        module = model.get_submodule(name)
        trained = [parameter.requires_grad for parameter in module.parameters()]
        adjusted = dict(options)
        if "feedforward_modules" in adjusted:
            adjusted["feedforward_modules"] = ["layer"] if name in adjusted["feedforward_modules"] else []
        try:
            layers[name] = _wrapped(module, name, method, adjusted, seed)
            layers[name].writes = _changed(layers[name], name)
        except ValueError as error:
            raise ValueError(f"'{name}' cannot have factors by {method}: {error}") from None
        finally:
            for parameter, before in zip(module.parameters(), trained, strict=True):
                parameter.requires_grad_(before)
    names = []
    for name, layer in layers.items():
        _put(model, name, layer)
        names += [f"{name}.{child}" for child, parameter in _trained(layer) if parameter.requires_grad]
    return names


@torch.no_grad()
def merge_factors(model: nn.Module) -> Merged:
    """Merge all factors into the weights, and put the original modules back. `requires_grad` stays as it is."""
    factors, written = [], {}
    layer: Any
    for name, layer in list(model.named_modules()):
        if factor_method(layer) is None:
            continue
        one, module = _factors(layer, name), layer.base_layer
        after = merged_weights(module, one)
        for kind in layer.writes:
            parameter = getattr(module, kind)
            before = parameter.detach().clone()
            parameter.copy_(after.get(kind, before))
            written[f"{name}.{kind}"] = (parameter, before, fingerprint({kind: parameter}))
        _put(model, name, module)
        factors.append(one)
    return Merged(tuple(factors), written)


def factor_method(module: nn.Module) -> str | None:
    """Return the method of a layer that `add_factors` made; None for any other module."""
    made_by = getattr(module, "made_by", None)
    return None if made_by is None else made_by[0]


@torch.no_grad()
def unmerge_factors(merged: Merged) -> None:
    """Restore the weights that `merge_factors` replaced, bit for bit.

    Raises:
        ValueError: a weight has changed since the merge; no weight was restored.
    """
    for name, (parameter, _, after) in merged.written.items():
        if fingerprint({name.rpartition(".")[2]: parameter}) != after:
            raise ValueError(
                f"'{name}' has changed since merge_factors(): it was trained, or the factors were already unmerged."
            )
    for parameter, before, _ in merged.written.values():
        parameter.copy_(before)


@torch.no_grad()
def merged_weights(module: Any, factors: Factors) -> dict[str, Tensor]:
    """Return the merged values of the parameters that the factors change, by name. The module is left unchanged.

    Raises:
        ValueError: the factors do not fit the module, or peft cannot merge them.
    """
    if factors.exact:
        return {"weight": _lora(module.weight, factors)}
    plain = copy.deepcopy(module)
    layer = _wrapped(plain, factors.module, factors.method, factors.options, factors.seed)
    trained = dict(_trained(layer))
    expected = {name: tensor.shape for name, tensor in trained.items()}
    if expected != {name: tensor.shape for name, tensor in factors.tensors.items()}:
        raise ValueError(f"The factors of '{factors.module}' do not have the names and shapes of {factors.method}.")
    for name, tensor in factors.tensors.items():
        trained[name].copy_(tensor)
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
    """Return `W + scale B A` (Hu et al. 2021, section 4.1). For DoRA, each row is rescaled to its trained magnitude
    (Liu et al. 2024, section 4).

    It is computed in float64 and by elementwise operations in a fixed order.
    """
    try:
        tensors = {name: tensor.to(weight.device).double() for name, tensor in factors.tensors.items()}
        down, up, length = tensors[DOWN].flatten(1), tensors[UP].flatten(1), tensors.get(LENGTH)
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
        raise ValueError(
            f"The factors of '{factors.module}' ({shapes}) do not fit its weight of shape {tuple(weight.shape)}."
        ) from None
    return rows.reshape(weight.shape).to(weight.dtype)


def _sums(rows: Tensor) -> Tensor:
    """Return the sum of each row by pairwise halving, so that the order of additions depends on no library."""
    while rows.shape[1] > 1:
        half = (rows.shape[1] + 1) // 2
        rest = rows.shape[1] - half
        rows = torch.cat([rows[:, :rest] + rows[:, half:], rows[:, rest:half]], 1)
    return rows[:, 0]


def why_not(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return why modules cannot have factors, by name; no entry if they can."""
    modules = dict(model.named_modules(remove_duplicate=False))
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for place, module in modules.items():
        for kind, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((f"{place}.{kind}", module))
    reasons = {name: _why_not(name, modules.get(name), owners) for name in names}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _why_not(name: str, module: Any, owners: Mapping[int, Sequence[tuple[str, nn.Module]]]) -> str | None:
    refused = f"'{name}' cannot have factors: "
    if module is None:
        return f"The model has no module '{name}'."
    if factor_method(module) is not None:
        return f"{refused}it already has some."
    if hasattr(module, "rows"):
        return f"{refused}only some of its rows train, and merging would also change the others."
    if "weight" not in dict(module.named_parameters(recurse=False)) and hasattr(module, "weight"):
        return f"{refused}its weight is computed from others (weight norm)."
    if type(module) not in (nn.Linear, nn.Conv1d) or "forward" in vars(module):
        return f"{refused}it is a {type(module).__name__}, not a plain Linear or Conv1d."
    if isinstance(module, nn.Conv1d):
        if module.groups > 1:
            return f"{refused}they cannot be merged into a convolution of {module.groups} groups."
        if module.dilation != (1,) or module.padding_mode != "zeros":
            return (
                f"{refused}peft does not support its dilation {module.dilation} or padding mode {module.padding_mode}."
            )
    for other, parent in owners[id(module.weight)]:
        if parent is not module:
            return f"{refused}its weight is tied to '{other}', which merging would also change."
    return None


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise ValueError for options, possibly read from a file, that are not plain values or select other modules."""
    for option, value in options.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        plain = all(isinstance(one, (bool, int, float, str, type(None))) for one in values)
        if option in _SELECTING_OPTIONS or not plain:
            raise ValueError(
                f"the option {option}={value!r} is not allowed for a single module. Give numbers, texts or lists; "
                "choose modules as sites."
            )


def _wrapped(module: nn.Module, name: str, method: str, options: Mapping[str, Any], seed: int) -> Any:
    """Return peft's layer around a module, with initial factors. Raises ValueError."""
    from peft import inject_adapter_in_model
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    _check_options(options)
    before = {kind: parameter.detach().clone() for kind, parameter in module.named_parameters()}
    # Wrap it alone in a ModuleDict: peft matches names by their endings, freezes the rest of a model and adds a config.
    holder = nn.ModuleDict({"layer": module})
    configs: dict[Any, Any] = dict(PEFT_TYPE_TO_CONFIG_MAPPING)
    draw = seed * 1_000_003 + zlib.crc32(name.encode())
    try:
        config = configs[method](target_modules=["layer"], **options)
        with torch.random.fork_rng():
            torch.manual_seed(draw)
            inject_adapter_in_model(config, holder, adapter_name=NAME)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    layer: Any = holder["layer"]
    if getattr(layer, "base_layer", None) is not module or any(
        not torch.equal(parameter, before[kind]) for kind, parameter in layer.base_layer.named_parameters()
    ):
        with torch.no_grad():
            for kind, parameter in module.named_parameters():
                parameter.copy_(before[kind])
        raise ValueError("with these options it changes the frozen weight.")
    # Some networks, such as Whisper, read these attributes from their convolutions.
    for attribute in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        if hasattr(module, attribute) and not hasattr(layer, attribute):
            setattr(layer, attribute, getattr(module, attribute))
    layer.made_by = (method, dict(options), seed)
    return layer


@torch.no_grad()
def _changed(layer: Any, name: str) -> list[str]:
    """Return the parameters that merging the factors changes.

    Raises:
        ValueError: peft cannot merge them, or the merged module does not compute what the layer does in training.
    """
    if _factors(layer, name).exact:
        return ["weight"]
    moved = copy.deepcopy(layer).eval()
    draw = torch.Generator().manual_seed(0)
    for _, parameter in _trained(moved):
        noise = torch.randn(parameter.shape, generator=draw).to(parameter)
        parameter.add_(0.05 * noise)
    module = moved.base_layer
    linear = isinstance(module, nn.Linear)
    sizes = (4, module.in_features) if linear else (1, module.in_channels, 4 * module.kernel_size[0])
    x = torch.randn(sizes, generator=draw).to(module.weight)
    try:
        trained = moved(x)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(f"peft cannot run it: {' '.join(str(error).split())}") from None
    alone, after = copy.deepcopy(module), merged_weights(module, _factors(moved, name))
    for kind, tensor in after.items():
        getattr(alone, kind).copy_(tensor)
    if not torch.allclose(alone(x), trained, rtol=0, atol=1e-3 * float(trained.abs().max())):
        raise ValueError("after merging, it does not compute the same as in training.")
    return list(after)


def _factors(layer: Any, name: str) -> Factors:
    method, options, seed = layer.made_by
    tensors = {child: parameter.detach().clone() for child, parameter in _trained(layer)}
    return Factors(name, method, options, seed, tensors)


def _trained(layer: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [item for item in layer.named_parameters() if not item[0].startswith("base_layer.")]


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
