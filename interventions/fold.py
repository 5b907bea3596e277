"""Folding: write exactly affine interventions into the weights of their modules, and restore the weights later.

A folded model costs no more than the unmodified one and runs wherever that one runs. The output of a module is affine
in its weights, so an affine map of the output can be expressed as different weights: steering adds a vector to the
bias, ablation zeroes rows, erasure mixes them. For convolutions this holds at padded edges too, because the map is
applied after the padding.
"""

# torch has no annotations for named_modules, and the tables of hooks and parameters are private.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interventions.affine import Affine
from interventions.bits import fingerprint
from interventions.intervention import Intervention
from interventions.sites import Site

# For each module class: the unit axis of its output, and whether each unit has a row of weights.
_FOLDABLE: dict[type[nn.Module], tuple[int, bool]] = {
    nn.Linear: (-1, True),
    nn.Conv1d: (1, True),
    nn.LayerNorm: (-1, False),
    nn.GroupNorm: (1, False),
    nn.BatchNorm1d: (1, False),
}


@dataclass(frozen=True, slots=True, eq=False)
class _Written:
    """A parameter that was written: its old value (None if it did not exist), and the fingerprint of its new value."""

    module: nn.Module
    name: str
    before: Tensor | None
    after: str


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Interventions that are folded into a model's weights, with copies of the original parameters."""

    interventions: tuple[Intervention, ...]
    written: tuple[_Written, ...]


@torch.no_grad()
def fold(model: nn.Module, *interventions: Intervention) -> Folded:
    """Write interventions into the model's weights, in the order in which they would apply. `unfold` undoes it.

    Afterwards the model computes what it would compute under `intervene(model, *interventions)`, up to rounding (about
    1e-7 of an activation in float32). A missing bias is created if one is needed, and removed by `unfold`. Parameters
    keep their identity, so optimizers and tied modules still refer to them.

    Raises:
        ValueError: If an intervention cannot be folded exactly; the message says why, and no weight was changed. The
            edit may not be affine, or not the same at every step, or may mix units where weights cannot. The site's
            module may not be a Linear, Conv1d, LayerNorm, GroupNorm or BatchNorm1d with its own weights (a block,
            weight norm, tied weights), or may have forward hooks, which would run in another order.
    """
    planned = [(site, module, affine) for one in interventions for site, module, affine in _plan(model, one)]
    before: dict[tuple[nn.Module, str], Tensor | None] = {}
    try:
        for site, module, affine in planned:
            for name in _parameters_to_write(module, affine):
                before.setdefault((module, name), _copy(_parameter(module, name)))
                _write(module, name, affine)
                written = _parameter(module, name)
                if written is None or not written.isfinite().all():
                    raise ValueError(f"Nothing can be folded into '{site.name}': its {name} would not be finite.")
    except BaseException:
        _restore(before)
        raise
    written = [_Written(module, name, old, _fingerprint(module, name)) for (module, name), old in before.items()]
    return Folded(tuple(interventions), tuple(written))


@torch.no_grad()
def unfold(folded: Folded) -> None:
    """Undo a `fold`: restore the weights that it replaced, bit for bit.

    Raises:
        ValueError: If a weight has changed since, by training or by a later fold; nothing is changed then.
    """
    for one in folded.written:
        if _fingerprint(one.module, one.name) != one.after:
            raise ValueError(
                f"The {one.name} of {one.module} has changed since fold(), so the fold cannot be undone. Undo later "
                "folds first. After training, or a second unfold(), the old weights cannot be restored."
            )
    _restore({(one.module, one.name): one.before for one in folded.written})


def _plan(model: nn.Module, intervention: Intervention) -> list[tuple[Site, nn.Module, Affine]]:
    kind = type(intervention).__name__
    if not intervention.scope.everything:
        raise ValueError(
            f"{kind} cannot be folded: its scope, {intervention.scope}, leaves steps, positions or examples out, and "
            "weights are the same for all."
        )
    planned: list[tuple[Site, nn.Module, Affine]] = []
    for site in intervention.sites:
        module = _module(model, site)
        affine = intervention.affine(site).at_strength(intervention.strength)
        has_rows = next(rows for known, (_, rows) in _FOLDABLE.items() if isinstance(module, known))
        if (affine.mixes_units or affine.added is not None) and (not has_rows or getattr(module, "groups", 1) != 1):
            raise ValueError(
                f"{kind} cannot be folded at '{site.name}': it mixes units, but each unit of {module} reads only a "
                "part of the input."
            )
        planned.append((site, module, affine))
    return planned


def _module(model: nn.Module, site: Site) -> nn.Module:
    """Return the module whose weights compute the site. Raises ValueError if nothing can be folded into them."""
    refused = f"Nothing can be folded into '{site.name}': "
    modules = dict(model.named_modules(remove_duplicate=False))
    if site.name not in modules:
        raise ValueError(f"The model has no module '{site.name}'.")
    module = modules[site.name]
    known = next((known for known in _FOLDABLE if isinstance(module, known)), None)
    # A subclass, or a method that a wrapper set on the object, may compute something else with these weights.
    if known is None or type(module).forward is not known.forward or "forward" in vars(module):
        names = ", ".join(kind.__name__ for kind in _FOLDABLE)
        raise ValueError(
            f"{refused}the output of this {type(module).__name__} may not be affine in its weights. "
            f"Expected one of {names}, with its own forward method."
        )
    own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
    for name in ("weight", "bias"):
        if name not in own and getattr(module, name) is not None:
            raise ValueError(f"{refused}its {name} is not a parameter, but computed from others (weight norm).")
    if "weight" not in own:
        raise ValueError(f"{refused}it has no weight (affine=False).")
    weight = own["weight"]
    axis, units = _FOLDABLE[known][0], weight.shape[0]
    if weight.dim() != 1 and known is nn.LayerNorm:
        raise ValueError(f"{refused}it normalises over several axes, {tuple(weight.shape)}.")
    if not weight.is_floating_point():
        raise ValueError(f"{refused}its weight is {weight.dtype}, not a floating-point type.")
    if (site.unit_axis, site.units) != (axis, units):
        raise ValueError(
            f"{refused}the site has {site.units} units on axis {site.unit_axis}, but the module has {units} on axis "
            f"{axis}."
        )
    if module._forward_hooks:
        raise ValueError(
            f"{refused}it has forward hooks ({len(module._forward_hooks)}), and folded edits would run before them. "
            "Remove the hooks first, or apply the intervention with intervene()."
        )
    memory = {parameter.data_ptr() for parameter in own.values()}
    for name, other in model.named_modules():
        for kind, parameter in other.named_parameters(recurse=False, remove_duplicate=False):
            if other is not module and parameter.data_ptr() in memory:
                raise ValueError(f"{refused}its weight is tied to '{name}.{kind}', which would change too.")
    return module


def _parameters_to_write(module: nn.Module, affine: Affine) -> list[str]:
    mapped = affine.scale is not None or affine.mixes_units
    names: list[str] = []
    if mapped or affine.added is not None:
        names.append("weight")
    if affine.needs_bias or (mapped and _parameter(module, "bias") is not None):
        names.append("bias")
    return names


def _write(module: nn.Module, name: str, affine: Affine) -> None:
    parameter = _parameter(module, name)
    if parameter is None:
        weight = module.get_parameter("weight")
        zeros = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
        module.bias = nn.Parameter(affine.fold_bias(zeros), requires_grad=weight.requires_grad)
    else:
        parameter.copy_(affine.fold_weight(parameter) if name == "weight" else affine.fold_bias(parameter))


def _parameter(module: nn.Module, name: str) -> Tensor | None:
    return module._parameters[name]


def _fingerprint(module: nn.Module, name: str) -> str:
    parameter = _parameter(module, name)
    return "" if parameter is None else fingerprint({name: parameter})


def _copy(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.detach().clone()


def _restore(before: dict[tuple[nn.Module, str], Tensor | None]) -> None:
    for (module, name), value in before.items():
        parameter = _parameter(module, name)
        if value is None or parameter is None:
            module.register_parameter(name, None)
        else:
            parameter.copy_(value)
