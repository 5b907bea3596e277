"""Folding: an intervention that is exactly affine, written into the weights before it, and taken out bit for bit.

A folded model costs what the bare one costs, and runs wherever that runs. What a module puts out is affine in its
weights, so that an affine map of it is another set of weights: a vector goes into the bias, an ablation zeroes rows, an
erasure mixes them. At a convolution this holds at its padded edges too, as the map comes after the padding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interventions.affine import Affine
from interventions.bits import fingerprint
from interventions.intervention import Intervention
from interventions.sites import Site

# Each with the axis that counts units, and whether a unit has a row of weights, into which others can be mixed.
_FOLDABLE: dict[type[nn.Module], tuple[int, bool]] = {
    nn.Linear: (-1, True),
    nn.Conv1d: (1, True),
    nn.LayerNorm: (-1, False),
    nn.GroupNorm: (1, False),
    nn.BatchNorm1d: (1, False),
}


@dataclass(frozen=True, slots=True, eq=False)
class _Written:
    """A parameter that was written: what it was, None where there was none, and the fingerprint of what it became."""

    module: nn.Module
    name: str
    before: Tensor | None
    after: str


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Interventions that stand in a model's weights, and a copy of each parameter that was overwritten for them."""

    interventions: tuple[Intervention, ...]
    written: tuple[_Written, ...]


@torch.no_grad()
def fold(model: nn.Module, *interventions: Intervention) -> Folded:
    """Write interventions into the model's weights, in the order in which they would apply; `unfold` takes them out.

    The model then gives what it would give under `intervene(model, *interventions)`, but for rounding (in float32, some
    1e-7 of an activation's size), under every use of it. A bias that is needed where the module has none is made, and
    goes with `unfold`. Parameters keep their identity, so that optimizers and ties to them stay.

    Raises:
        ValueError: one cannot be folded exactly, and why; nothing was written. The reasons are an edit that is not
            affine, or not the same at every step; a site whose module is no Linear, Conv1d, LayerNorm, GroupNorm or
            BatchNorm1d with weights of its own (a block, a weight that is computed from others, or shared with another
            module); an edit that mixes units where weights cannot; forward hooks, which would see another order.
    """
    planned = [(site, module, affine) for one in interventions for site, module, affine in _plan(model, one)]
    before: dict[tuple[nn.Module, str], Tensor | None] = {}
    try:
        for site, module, affine in planned:
            for name in _touched(module, affine):
                before.setdefault((module, name), _copy(getattr(module, name)))
                _write(module, name, affine)
                if not getattr(module, name).isfinite().all():
                    raise ValueError(f"'{site.name}' cannot be folded into: its {name} would not be finite.")
    except BaseException:
        _restore(before)
        raise
    written = [_Written(module, name, old, _print(module, name)) for (module, name), old in before.items()]
    return Folded(tuple(interventions), tuple(written))


@torch.no_grad()
def unfold(folded: Folded) -> None:
    """Take folded interventions out: weights are what they were before, bit for bit.

    Raises:
        ValueError: a weight has changed since (it was trained, or another fold came on top, to be taken out first), so
            that what it was before would undo that too; nothing was changed.
    """
    for one in folded.written:
        if _print(one.module, one.name) != one.after:
            raise ValueError(
                f"The {one.name} of {one.module} is not what fold() left. Take out what was folded later first; after "
                "training, or a second unfold(), there is nothing to go back to."
            )
    _restore({(one.module, one.name): one.before for one in folded.written})


def _plan(model: nn.Module, intervention: Intervention) -> list[tuple[Site, nn.Module, Affine]]:
    kind = type(intervention).__name__
    if not intervention.scope.everything:
        raise ValueError(
            f"{kind} cannot be folded: its scope, {intervention.scope}, leaves steps, positions or examples out, and "
            "weights are the same for all."
        )
    planned = []
    for site in intervention.sites:
        module = _module(model, site)
        affine = intervention.affine(site).at_strength(intervention.strength)
        axis, rows = next(form for known, form in _FOLDABLE.items() if isinstance(module, known))
        if (affine.mixes or affine.added is not None) and (not rows or getattr(module, "groups", 1) != 1):
            raise ValueError(
                f"{kind} cannot be folded at '{site.name}': it mixes units, and {module} has weights that make each "
                "unit from a part of its input only."
            )
        planned.append((site, module, affine))
    return planned


def _module(model: nn.Module, site: Site) -> nn.Module:
    """The module whose weights make the site, or the reason why there are none to write into."""
    refused = f"'{site.name}' cannot be folded into: "
    modules = dict(model.named_modules(remove_duplicate=False))
    if site.name not in modules:
        raise ValueError(f"The model has no module '{site.name}'.")
    module = modules[site.name]
    known = next((known for known in _FOLDABLE if isinstance(module, known)), None)
    # A subclass, or a wrapper's method on the object, may compute something else with these weights.
    if known is None or type(module).forward is not known.forward or "forward" in vars(module):
        names = ", ".join(kind.__name__ for kind in _FOLDABLE)
        raise ValueError(f"{refused}a {type(module).__name__} is not affine in weights of its own, as {names} are.")
    own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
    for name in ("weight", "bias"):
        if name not in own and getattr(module, name) is not None:
            raise ValueError(f"{refused}its {name} is no parameter, but computed from others (weight norm).")
    if "weight" not in own:
        raise ValueError(f"{refused}it has no weight (affine=False).")
    axis, units = _FOLDABLE[known][0], module.weight.shape[0]
    if module.weight.dim() != 1 and known is nn.LayerNorm:
        raise ValueError(f"{refused}it normalises several axes, {tuple(module.weight.shape)}.")
    if not module.weight.is_floating_point():
        raise ValueError(f"{refused}its weight is {module.weight.dtype}, no floating-point number.")
    if (site.unit_axis, site.units) != (axis, units):
        raise ValueError(
            f"{refused}the site has {site.units} units on axis {site.unit_axis}, but the module {units} on axis {axis}."
        )
    if module._forward_hooks:
        raise ValueError(
            f"{refused}there are forward hooks on it ({len(module._forward_hooks)}), and what is folded comes before "
            "what they do. Take them off first, or leave the intervention a hook too."
        )
    memory = {parameter.data_ptr() for parameter in own.values()}
    for name, other in model.named_modules():
        for kind, parameter in other.named_parameters(recurse=False, remove_duplicate=False):
            if other is not module and parameter.data_ptr() in memory:
                raise ValueError(f"{refused}its weight is tied to '{name}.{kind}', which would change too.")
    return module


def _touched(module: nn.Module, affine: Affine) -> list[str]:
    mapped = affine.scale is not None or affine.mixes
    weight = ["weight"] if mapped or affine.added is not None else []
    return weight + (["bias"] if affine.moves or (mapped and module.bias is not None) else [])


def _write(module: nn.Module, name: str, affine: Affine) -> None:
    parameter = getattr(module, name)
    if name == "weight":
        parameter.copy_(affine.of_weight(parameter))
    elif parameter is not None:
        parameter.copy_(affine.of_bias(parameter))
    else:
        zeros = torch.zeros(len(module.weight), dtype=module.weight.dtype, device=module.weight.device)
        module.bias = nn.Parameter(affine.of_bias(zeros), requires_grad=module.weight.requires_grad)


def _print(module: nn.Module, name: str) -> str:
    parameter = getattr(module, name)
    return "" if parameter is None else fingerprint({name: parameter})


def _copy(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.detach().clone()


def _restore(before: dict[tuple[nn.Module, str], Tensor | None]) -> None:
    for (module, name), value in before.items():
        if value is None:
            setattr(module, name, None)
        else:
            getattr(module, name).copy_(value)
