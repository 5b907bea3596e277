"""Linear and convolution modules that train only some of their weight rows, with their own gradient computation."""

# torch has no complete annotations for autograd functions and for the private tables of modules, which are used here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class RowModule(nn.Module):
    """The trained rows of a RowLinear or RowConv1d, which are copied into the full weight whenever that is read.

    Everything is implemented in the class and not in hooks, because a copy of the model would lose hooks.

    Attributes:
        rows: `(neurons, in, ...)`, the trained rows.
        row_bias: `(neurons,)`, their biases; None if the module has none.
        units: `(neurons,)`, the indices of the trained rows in the full weight.
        trained_before: whether the full weight and bias required gradients before `add_rows`.
    """

    rows: nn.Parameter
    row_bias: nn.Parameter | None
    units: Tensor
    trained_before: tuple[bool, bool]

    def __new__(cls, *sizes: Any, **options: Any) -> Any:
        # Code that creates a module of the same class, as peft does for its factors, gets a plain one. Copying calls
        # this without arguments.
        return cls.__bases__[1](*sizes, **options) if sizes or options else super().__new__(cls)

    @property
    def weight(self) -> nn.Parameter:
        """The full weight, with the current values of the trained rows."""
        self.write_rows()
        return cast(nn.Parameter, self._parameters["weight"])

    @property
    def bias(self) -> nn.Parameter | None:
        """The full bias, with the current values of the trained rows; None if the module has none."""
        self.write_rows()
        return self._parameters["bias"]

    def write_rows(self) -> None:
        """Write the trained rows to the full weight and bias."""
        # Always, because some optimizers change data without changing a parameter's version. Through `.data`, so that
        # tensors saved for a backward pass stay valid as long as the rows, which are saved too, do not change.
        _data(self, "weight").index_copy_(0, self.units, self.rows.data)
        if self.row_bias is not None:
            _data(self, "bias").index_copy_(0, self.units, self.row_bias.data)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        self.write_rows()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in ("rows", "row_bias"):
            destination.pop(f"{prefix}{name}", None)

    def _load_from_state_dict(
        self, state: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str], *others: Any
    ) -> None:
        self.write_rows()  # in case the state dict lacks some parameters
        for name, rows in (("weight", self.rows), ("bias", self.row_bias)):
            loaded = state.get(f"{prefix}{name}")
            if rows is not None and loaded is not None and loaded.shape == _data(self, name).shape:
                rows.data.copy_(loaded[self.units.to(loaded.device)])
        super()._load_from_state_dict(state, prefix, metadata, strict, missing, *others)
        missing[:] = [name for name in missing if name not in (f"{prefix}rows", f"{prefix}row_bias")]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rows={len(self.units)}"


class RowLinear(RowModule, nn.Linear):
    """A Linear that trains only some of its rows."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return F.linear(x, self.weight, self._parameters["bias"])
        weight = self.weight
        return cast(Any, _LinearRows.apply)(x, weight, self._parameters["bias"], self.rows, self.row_bias, self.units)


class RowConv1d(RowModule, nn.Conv1d):
    """A Conv1d that trains only some of its rows, with any stride, dilation, padding and number of groups."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self._conv_forward(x, self.weight, self._parameters["bias"])
        padding = self.padding
        if self.padding_mode != "zeros":
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,)
        elif isinstance(padding, str):  # "same" or "valid"; an even kernel gets one more zero at the end
            left, right = self._reversed_padding_repeated_twice
            x = F.pad(x, (0, right - left)) if right != left else x
            padding = (left,)
        unbatched = x.dim() == 2
        weight = self.weight
        y: Tensor = cast(Any, _Conv1dRows.apply)(
            x.unsqueeze(0) if unbatched else x,
            weight,
            self._parameters["bias"],
            self.rows,
            self.row_bias,
            self.units,
            (self.stride, padding, self.dilation, self.groups),
        )
        return y.squeeze(0) if unbatched else y


ROW_MODULES: dict[type[nn.Module], type[RowModule]] = {nn.Linear: RowLinear, nn.Conv1d: RowConv1d}


def add_rows(module: nn.Module, units: Sequence[int]) -> list[str]:
    """Let only some rows of a Linear or Conv1d train, in place. Returns the names of the parameters that train."""
    weight, bias = cast(nn.Parameter, module.weight), cast(nn.Parameter | None, module.bias)
    index = torch.tensor(units, device=weight.device)
    module.register_buffer("units", index, persistent=False)
    cast(Any, module).trained_before = (weight.requires_grad, bias is not None and bias.requires_grad)
    module.register_parameter("rows", nn.Parameter(weight.detach()[index]))
    module.register_parameter("row_bias", None if bias is None else nn.Parameter(bias.detach()[index]))
    for parameter in (weight, bias):
        if parameter is not None:
            parameter.requires_grad_(False)
            parameter.grad = None
    module.__class__ = ROW_MODULES[type(module)]
    return ["rows"] if bias is None else ["rows", "row_bias"]


def remove_rows(module: RowModule) -> None:
    """Undo `add_rows`, and leave the trained rows in the weight."""
    module.write_rows()
    trained = module.trained_before
    cast(Any, module).__class__ = next(plain for plain, kind in ROW_MODULES.items() if isinstance(module, kind))
    for name in ("rows", "row_bias", "units", "trained_before"):
        delattr(module, name)
    for parameter, before in zip((module.weight, module.bias), trained, strict=True):
        if parameter is not None:
            parameter.requires_grad_(before)


class _LinearRows(Function):
    """`F.linear` with the full weight, whose weight gradient is computed for the trained rows only."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, row_bias: Tensor | None, units: Tensor
    ) -> Tensor:
        # The rows are saved only to make autograd refuse a backward pass after they have changed.
        ctx.save_for_backward(x if ctx.needs_input_grad[3] else None, weight, units, rows)
        return _as_new(F.linear(x, weight, bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, units, _ = ctx.saved_tensors
        x_gradient = row_gradient = bias_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = gradient.matmul(weight.to(gradient.dtype))  # dtypes differ under autocast
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            selected = gradient.index_select(-1, units).reshape(-1, len(units))
            if ctx.needs_input_grad[3]:
                row_gradient = selected.T.matmul(x.reshape(-1, x.shape[-1]).to(selected.dtype))
            if ctx.needs_input_grad[4]:
                bias_gradient = selected.sum(0)
        return x_gradient, None, None, row_gradient, bias_gradient, None


class _Conv1dRows(Function):
    """`F.conv1d` with the full weight, whose weight gradient is computed for the trained rows only.

    `shape` is (stride, padding, dilation, groups).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor,
        row_bias: Tensor | None,
        units: Tensor,
        shape: tuple[Any, ...],
    ) -> Tensor:
        ctx.save_for_backward(x, weight, units, rows)
        ctx.shape = shape
        return _as_new(F.conv1d(x, weight, bias, *shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, units, _ = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.shape
        x, weight = x.to(gradient.dtype), weight.to(gradient.dtype)  # dtypes differ under autocast

        def gradients(
            y: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: list[bool]
        ) -> tuple[Tensor | None, ...]:
            return torch.ops.aten.convolution_backward(
                y, x, weight, [len(weight)], stride, padding, dilation, False, [0], groups, wanted
            )

        x_gradient = row_gradient = bias_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = gradients(gradient, x, weight, groups, [True, False, False])[0]
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            if groups > 1:  # make each unit a group of its own, with the channels of its former group
                first = units // (len(weight) // groups) * weight.shape[1]
                channels = first[:, None] + torch.arange(weight.shape[1], device=units.device)
                x, groups = x.index_select(1, channels.flatten()), len(units)
            # Only the shape of this weight matters.
            wanted = [False, ctx.needs_input_grad[3], ctx.needs_input_grad[4]]
            _, row_gradient, bias_gradient = gradients(
                gradient.index_select(1, units), x, weight[: len(units)], groups, wanted
            )
        return x_gradient, None, None, row_gradient, bias_gradient, None, None


def _data(module: nn.Module, name: str) -> Tensor:
    return cast(nn.Parameter, module._parameters[name]).data


def _as_new(y: Tensor) -> Tensor:
    # F.linear often returns a view, and a view that a Function returns could not be changed in place.
    return torch.ops.aten._unsafe_view(y, y.shape)
