"""Neurons that train alone: a block of rows beside the frozen weight, with its own gradient and optimizer state.

    names = train_rows(model, scores.top(0.05))     # their weight rows and biases train, their modules' others do not
    freeze_all_but(model, names)                    # nor does anything else
    ...                                             # any loop, any optimizer
    merge_rows(model)                               # a plain model again, with the trained rows in place

This is no mask on a gradient. The backward pass computes the weight gradient of the chosen rows only, and an optimizer
never sees the others: neither decay nor momentum, clipping or rounding can move a bit of them. The forward pass is the
usual one, with the full weight. `freeze_neurons(model, neurons)` is the opposite: all else trains.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from interventions.neurons import Neurons
from interventions.sites import UNIT_AXIS, Site


def train_rows(model: nn.Module, neurons: Neurons) -> list[str]:
    """Let the neurons train, and no other unit of their modules; return the names of the parameters that do.

    A neuron is the row of a Linear's or Conv1d's weight that makes one unit, and its bias. The modules stay where they
    are and are still a Linear or Conv1d; each has the parameters `rows` `(neurons, in, ...)` and `row_bias` besides,
    which are what an optimizer gets. Where all units of a module are chosen, its own parameters train. Other modules
    are left as they are.

    The model's state dict has its usual keys and holds the current values, also directly after a step; one that is
    loaded may come from a model with or without rows. Each forward pass, and each reading of `module.weight`, writes
    the rows into the weight first, which costs a copy of them. Only `named_parameters()` gives the weight as the last
    of these left it.

    Raises:
        ValueError: there is no neuron, or a module's rows cannot train alone, and why; the model is as before. The
            reasons are a module that is no plain Linear or Conv1d; a weight that is computed from others (weight norm),
            or shared with another module (a tied output layer); a site of another size.
    """
    if not len(neurons):
        raise ValueError("There are no neurons to train: the set is empty.")
    chosen = {site: _module(model, site) for site in neurons.used}
    if len(set(chosen.values())) < len(chosen):
        raise ValueError(
            f"Two of these sites are one module: {', '.join(site.name for site in chosen)}. Leave one out."
        )
    names = []
    for site, module in chosen.items():
        own = [name for name in ("weight", "bias") if getattr(module, name) is not None]
        if len(neurons[site]) == site.units:
            for name in own:
                getattr(module, name).requires_grad_(True)
        else:
            own = _add_rows(module, neurons[site])
        names += [f"{site.name}.{name}".lstrip(".") for name in own]
    return names


def freeze_neurons(model: nn.Module, neurons: Neurons, trainable: Iterable[str] | None = None) -> list[str]:
    """Let all train but these neurons: the opposite of `train_rows`; return the names of the parameters that do.

    `trainable` names the parameters that may at all; None: every one.

    Raises:
        ValueError: as `train_rows`, of a module of which some neurons are frozen; the model is as before.
    """
    names = [name for name, _ in model.named_parameters()] if trainable is None else list(trainable)
    partly = {f"{site.name}.{kind}".lstrip(".") for site in neurons.sites for kind in ("weight", "bias")}
    rest = ~neurons
    return [name for name in names if name not in partly] + (train_rows(model, rest) if len(rest) else [])


@torch.no_grad()
def merge_rows(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """End what `train_rows` began: modules of the original classes, with the trained rows in their weights.

    Returns the rows that could train, ascending, for each parameter of which only some could; nothing where there are
    no such modules. Whether these parameters train (`requires_grad`) is then as before `train_rows`.
    """
    trained = {}
    for name, module in model.named_modules():
        if isinstance(module, _Rows):
            for kind in ("weight", "bias"):
                if getattr(module, kind) is not None:
                    trained[f"{name}.{kind}".lstrip(".")] = tuple(module.units.tolist())
            _remove_rows(module)
    return trained


def full_weight(module: nn.Module) -> Tensor:
    """The whole weight of a module as it is now, with a gradient to what of it trains: all, some rows, or nothing.

    Of a module with trained rows it is a copy; its `weight` alone would lead no gradient to them.
    """
    if not isinstance(module, _Rows):
        return module.weight
    return module.weight.detach().index_copy(0, module.units, module.rows)


def untrainable_reason(model: nn.Module, site: Site) -> str | None:
    """Why rows of a site's module cannot train alone, as `train_rows` says it; None where they can."""
    try:
        _module(model, site)
    except ValueError as error:
        return str(error)
    return None


class _Rows(nn.Module):
    """What a Linear and a Conv1d with trained rows share. `rows` are the truth, and the full weight is brought up to it
    wherever it is read.

    All of it is in the class and none in hooks, which a copy of the model would lose.
    """

    rows: nn.Parameter
    row_bias: nn.Parameter | None
    units: Tensor  # (neurons,), which rows of the weight they are

    def __new__(cls, *sizes: Any, **options: Any) -> nn.Module:
        # Who makes a module of the same class, as peft does for its factors, gets a plain one. Copies are made bare.
        return cls.__bases__[1](*sizes, **options) if sizes or options else super().__new__(cls)

    @property
    def weight(self) -> nn.Parameter:
        """The full weight as it is now."""
        self._write()
        return self._parameters["weight"]

    @property
    def bias(self) -> nn.Parameter | None:
        """The full bias as it is now; None where the module has none."""
        self._write()
        return self._parameters["bias"]

    def _write(self) -> None:
        # Always, for there are optimizers that change a parameter's data without its version telling. Through `.data`,
        # for what was saved for a backward pass stays as it is unless the rows changed, and those are saved as well.
        self._parameters["weight"].data.index_copy_(0, self.units, self.rows.data)
        if self.row_bias is not None:
            self._parameters["bias"].data.index_copy_(0, self.units, self.row_bias.data)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        self._write()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in ("rows", "row_bias"):
            destination.pop(f"{prefix}{name}", None)

    def _load_from_state_dict(
        self, state: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str], *others: Any
    ) -> None:
        self._write()  # for what is not loaded
        for name, rows in (("weight", self.rows), ("bias", self.row_bias)):
            loaded = state.get(f"{prefix}{name}")
            if rows is not None and loaded is not None and loaded.shape == self._parameters[name].shape:
                rows.data.copy_(loaded[self.units.to(loaded.device)])
        super()._load_from_state_dict(state, prefix, metadata, strict, missing, *others)
        missing[:] = [name for name in missing if name not in (f"{prefix}rows", f"{prefix}row_bias")]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rows={len(self.units)}"


class RowLinear(_Rows, nn.Linear):
    """A Linear of which some rows train."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return F.linear(x, self.weight, self._parameters["bias"])
        return _LinearRows.apply(x, self.weight, self._parameters["bias"], self.rows, self.row_bias, self.units)


class RowConv1d(_Rows, nn.Conv1d):
    """A Conv1d of which some rows train, with any stride, dilation, padding and number of groups."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self._conv_forward(x, self.weight, self._parameters["bias"])
        padding = self.padding
        if self.padding_mode != "zeros":
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,)
        elif isinstance(padding, str):  # "same" or "valid"; an even kernel is padded by one more behind
            left, right = self._reversed_padding_repeated_twice
            x = F.pad(x, (0, right - left)) if right != left else x
            padding = (left,)
        alone = x.dim() == 2  # (units, time), without a batch
        y = _Conv1dRows.apply(
            x.unsqueeze(0) if alone else x, self.weight, self._parameters["bias"], self.rows, self.row_bias, self.units,
            (self.stride, padding, self.dilation, self.groups),
        )  # fmt: skip
        return y.squeeze(0) if alone else y


class _LinearRows(Function):
    """`F.linear` with the full weight, and a weight gradient of the rows alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, row_bias: Tensor | None, units: Tensor
    ) -> Tensor:
        # The rows are saved only so that autograd refuses a backward pass through weights that were changed since.
        ctx.save_for_backward(x if ctx.needs_input_grad[3] else None, weight, units, rows)
        return _no_view(F.linear(x, weight, bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, units, _ = ctx.saved_tensors
        of_x = of_rows = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = gradient.matmul(weight.to(gradient.dtype))  # which differs under autocast alone
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            own = gradient.index_select(-1, units).reshape(-1, len(units))
            if ctx.needs_input_grad[3]:
                of_rows = own.T.matmul(x.reshape(-1, x.shape[-1]).to(own.dtype))
            if ctx.needs_input_grad[4]:
                of_bias = own.sum(0)
        return of_x, None, None, of_rows, of_bias, None


class _Conv1dRows(Function):
    """`F.conv1d` with the full weight, and a weight gradient of the rows alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, row_bias: Tensor | None, units: Tensor,
        shape: tuple[Any, ...],
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight, units, rows)
        ctx.shape = shape
        return _no_view(F.conv1d(x, weight, bias, *shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, units, _ = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.shape
        x, weight = x.to(gradient.dtype), weight.to(gradient.dtype)  # which differ under autocast alone

        def of(y: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: list[bool]) -> tuple[Tensor | None, ...]:
            return torch.ops.aten.convolution_backward(
                y, x, weight, [len(weight)], stride, padding, dilation, False, [0], groups, wanted
            )

        of_x = of_rows = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = of(gradient, x, weight, groups, [True, False, False])[0]
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            if groups > 1:  # each unit reads the channels of its group, and so becomes a group of its own
                first = units // (len(weight) // groups) * weight.shape[1]
                channels = first[:, None] + torch.arange(weight.shape[1], device=units.device)
                x, groups = x.index_select(1, channels.flatten()), len(units)
            # Of this weight only the shape matters.
            wanted = [False, ctx.needs_input_grad[3], ctx.needs_input_grad[4]]
            _, of_rows, of_bias = of(gradient.index_select(1, units), x, weight[: len(units)], groups, wanted)
        return of_x, None, None, of_rows, of_bias, None, None


def _no_view(y: Tensor) -> Tensor:
    # A view of another tensor, as F.linear's output mostly is, could not be changed in place behind a Function.
    return torch.ops.aten._unsafe_view(y, y.shape)


_KINDS: dict[type[nn.Module], type[_Rows]] = {nn.Linear: RowLinear, nn.Conv1d: RowConv1d}


def _add_rows(module: nn.Module, units: Sequence[int]) -> list[str]:
    weight, bias = module.weight, module.bias
    index = torch.tensor(units, device=weight.device)
    module.register_buffer("units", index, persistent=False)
    module.trained_before = (weight.requires_grad, bias is not None and bias.requires_grad)
    module.register_parameter("rows", nn.Parameter(weight.detach()[index]))
    module.register_parameter("row_bias", None if bias is None else nn.Parameter(bias.detach()[index]))
    for parameter in (weight, bias):
        if parameter is not None:
            parameter.requires_grad_(False)
            parameter.grad = None
    module.__class__ = _KINDS[type(module)]
    return ["rows"] if bias is None else ["rows", "row_bias"]


def _remove_rows(module: _Rows) -> None:
    module._write()
    trained = module.trained_before
    module.__class__ = next(plain for plain, kind in _KINDS.items() if isinstance(module, kind))
    for name in ("rows", "row_bias", "units", "trained_before"):
        delattr(module, name)
    for parameter, before in zip((module.weight, module.bias), trained, strict=True):
        if parameter is not None:
            parameter.requires_grad_(before)


def _module(model: nn.Module, site: Site) -> nn.Module:
    """The module whose rows make the site's units, or the reason why they cannot train alone."""
    refused = f"Neurons of '{site.name}' cannot train alone: "
    modules = dict(model.named_modules(remove_duplicate=False))
    if site.name not in modules:
        raise ValueError(f"The model has no module '{site.name}'. It has, among others, {_some(modules)}.")
    module = modules[site.name]
    if isinstance(module, _Rows):
        raise ValueError(f"{refused}some of them do already. End that first: merge_rows(model).")
    own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
    if isinstance(module, tuple(_KINDS)) and "weight" not in own:
        raise ValueError(
            f"{refused}its weight is computed from others (weight norm), and a row of those is not one unit's."
        )
    # A subclass, or a wrapper's method on the object, may compute something else; and that of MultiheadAttention's
    # output is never called.
    if type(module) not in _KINDS or "forward" in vars(module):
        raise ValueError(f"{refused}it is a {type(module).__name__}, and no plain Linear or Conv1d.")
    axis, units = UNIT_AXIS[type(module)], len(module.weight)
    if (site.unit_axis, site.units) != (axis, units):
        raise ValueError(
            f"{refused}the site has {site.units} units on axis {site.unit_axis}, the module {units} on axis {axis}: "
            "it is another model's."
        )
    if not module.weight.is_floating_point() or module.weight.is_inference():
        raise ValueError(
            f"{refused}its weight is {module.weight.dtype}"
            f"{', made under inference_mode' if module.weight.is_inference() else ', no floating-point number'}."
        )
    for name, other in modules.items():
        for kind, parameter in other.named_parameters(recurse=False, remove_duplicate=False):
            if other is not module and any(_overlap(parameter, mine) for mine in own.values()):
                raise ValueError(f"{refused}its weight is tied to '{name}.{kind}', which would change too.")
    return module


def _overlap(one: Tensor, other: Tensor) -> bool:
    starts = (one.data_ptr(), other.data_ptr())
    return starts[0] < starts[1] + other.nbytes and starts[1] < starts[0] + one.nbytes


def _some(modules: dict[str, nn.Module]) -> str:
    return ", ".join(f"'{name}'" for name, module in modules.items() if type(module) in _KINDS) or "none that could"
