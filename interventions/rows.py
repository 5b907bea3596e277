"""Train single neurons: their weight rows become a parameter next to the frozen weight, with its own optimizer state.

    names = train_rows(model, scores.top(0.05))     # train the weight rows and biases of these neurons
    freeze_all_but(model, names)                    # freeze everything else
    ...                                             # any training loop, any optimizer
    merge_rows(model)                               # restore the plain model, with the trained rows in place

This does not mask gradients. The backward pass computes the weight gradient of the chosen rows only, and the optimizer
never sees other rows, so weight decay, momentum, clipping and rounding cannot change a single bit of them. The forward
pass is the usual one, with the full weight. `freeze_neurons(model, neurons)` is the opposite: it trains everything
else.
"""

# Module.named_modules has no annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from interventions.neurons import Neurons
from interventions.row_modules import ROW_MODULES, RowModule, add_rows, remove_rows
from interventions.sites import UNIT_AXIS, Site


def train_rows(model: nn.Module, neurons: Neurons) -> list[str]:
    """In the modules of `neurons`, make only these neurons trainable. Returns the names of the trainable parameters.

    A neuron is the row of a Linear's or Conv1d's weight that computes one unit, and its bias. Each module remains a
    Linear or Conv1d, and gets the additional parameters `rows` `(neurons, in, ...)` and `row_bias`, which are passed to
    the optimizer. If all units of a module are chosen, its own parameters train instead. Other modules do not change.

    The state dict keeps its keys and always has the current values; state dicts can be exchanged between models with
    and without trained rows. Each forward pass, and each access to `module.weight`, first copies the rows into the
    weight. `named_parameters()` alone does not: its weight has the values of the last copy.

    Raises:
        ValueError: If there are no neurons, or single rows of a module cannot be trained. The model is then left
            unchanged. A module must be a plain Linear or Conv1d, and its weight must not be computed from other
            parameters (weight norm) or tied to another module. The site must have the module's size.
    """
    if not len(neurons):
        raise ValueError("There are no neurons to train: the set is empty.")
    modules = _Modules(model)
    chosen = {site: modules.trainable(site) for site in neurons.used}
    if len(set(chosen.values())) < len(chosen):
        raise ValueError(
            f"Two of these sites are the same module: {', '.join(site.name for site in chosen)}. Leave one out."
        )
    names: list[str] = []
    for site, module in chosen.items():
        trained = [name for name in ("weight", "bias") if getattr(module, name) is not None]
        if len(neurons[site]) == site.units:
            for name in trained:
                getattr(module, name).requires_grad_(True)
        else:
            trained = add_rows(module, neurons[site])
        names += [f"{site.name}.{name}".lstrip(".") for name in trained]
    return names


def freeze_neurons(model: nn.Module, neurons: Neurons, trainable: Iterable[str] | None = None) -> list[str]:
    """Let everything train except these neurons. Returns the names of the parameters that train.

    Args:
        model: the model.
        neurons: the neurons to freeze.
        trainable: names of the parameters that may train; None: all.

    Raises:
        ValueError: As `train_rows`, if only some neurons of a module are frozen; the model is left unchanged.
    """
    names = [name for name, _ in model.named_parameters()] if trainable is None else list(trainable)
    partial = {f"{site.name}.{kind}".lstrip(".") for site in neurons.sites for kind in ("weight", "bias")}
    others = ~neurons
    return [name for name in names if name not in partial] + (train_rows(model, others) if len(others) else [])


@torch.no_grad()
def merge_rows(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Undo `train_rows`: restore the original module classes, with the trained rows in their weights.

    The parameters' `requires_grad` is restored too.

    Returns:
        For each parameter of which only some rows were trainable, the indices of these rows, ascending.
    """
    trained: dict[str, tuple[int, ...]] = {}
    for name, module in model.named_modules():
        if isinstance(module, RowModule):
            for kind in ("weight", "bias"):
                if getattr(module, kind) is not None:
                    trained[f"{name}.{kind}".lstrip(".")] = tuple(module.units.tolist())
            remove_rows(module)
    return trained


def full_weight(module: nn.Module) -> Tensor:
    """Return the whole current weight of a module, through which gradients flow to the rows that train.

    For a module with trained rows this is a copy. Its `weight` would not pass gradients to them.
    """
    if not isinstance(module, RowModule):
        return cast(Tensor, module.weight)
    return module.weight.detach().index_copy(0, module.units, module.rows)


def untrainable_reasons(model: nn.Module, sites: Iterable[Site]) -> dict[str, str]:
    """Return why rows of modules cannot train alone, as `train_rows` reports it, by site; no entry if they can."""
    modules, reasons = _Modules(model), dict[str, str]()
    for site in sites:
        try:
            modules.trainable(site)
        except ValueError as error:
            reasons[site.name] = str(error)
    return reasons


class _Modules:
    """The modules of a model by name, and which of them share memory. It is made once for many sites."""

    def __init__(self, model: nn.Module) -> None:
        self.named = dict(model.named_modules(remove_duplicate=False))
        self._neighbours = _neighbours(self.named)

    def trainable(self, site: Site) -> nn.Module:
        """Return the module whose rows compute the site's units. Raises ValueError if they cannot train alone."""
        refused = f"Neurons of '{site.name}' cannot train alone: "
        if site.name not in self.named:
            candidates = [f"'{name}'" for name, module in self.named.items() if type(module) in ROW_MODULES]
            raise ValueError(
                f"The model has no module '{site.name}'. Modules with trainable rows: "
                f"{', '.join(candidates) or 'none'}."
            )
        module = self.named[site.name]
        if isinstance(module, RowModule):
            raise ValueError(f"{refused}some rows of this module already do. Call merge_rows(model) first.")
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        if isinstance(module, tuple(ROW_MODULES)) and "weight" not in own:
            raise ValueError(
                f"{refused}its weight is computed from others (weight norm), whose rows do not belong to one unit."
            )
        # A subclass, or a method that a wrapper set on the object, may compute something else. MultiheadAttention never
        # calls its output module, which is a subclass.
        if type(module) not in ROW_MODULES or "forward" in vars(module):
            raise ValueError(f"{refused}it is a {type(module).__name__}, not a plain Linear or Conv1d.")
        weight = own["weight"]
        axis, units = UNIT_AXIS[type(module)], len(weight)
        if (site.unit_axis, site.units) != (axis, units):
            raise ValueError(
                f"{refused}the site has {site.units} units on axis {site.unit_axis}, but the module has {units} on "
                f"axis {axis}. The site belongs to another model."
            )
        if not weight.is_floating_point():
            raise ValueError(f"{refused}its weight is {weight.dtype}, not a floating-point type.")
        if weight.is_inference():
            raise ValueError(f"{refused}its weight was created under torch.inference_mode.")
        tied = self._tied_to(module, own.values())
        if tied is not None:
            raise ValueError(f"{refused}its weight is tied to '{tied}', which would change too.")
        return module

    def _tied_to(self, module: nn.Module, own: Iterable[Tensor]) -> str | None:
        for mine in own:
            for name, other, parameter in self._neighbours[id(mine)]:
                if other is not module and _overlap(parameter, mine):
                    return name
        return None


_Owned = tuple[str, nn.Module, Tensor]  # a parameter's name, its module and itself


def _neighbours(modules: Mapping[str, nn.Module]) -> dict[int, list[_Owned]]:
    """Return the parameters whose memory may overlap with that of each parameter, itself included, by its id."""
    owned: list[_Owned] = [
        (f"{name}.{kind}", module, parameter)
        for name, module in modules.items()
        for kind, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    ]
    found: dict[int, list[_Owned]] = {}
    group: list[_Owned] = []
    end = -1
    for one in sorted(owned, key=lambda one: one[2].data_ptr()):
        start = one[2].data_ptr()
        group = group if start < end else []
        end = max(end, start + one[2].nbytes)
        group.append(one)
        found[id(one[2])] = group
    return found


def _overlap(one: Tensor, other: Tensor) -> bool:
    starts = (one.data_ptr(), other.data_ptr())
    return starts[0] < starts[1] + other.nbytes and starts[1] < starts[0] + one.nbytes
