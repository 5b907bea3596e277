"""A device that does not exist, on which everything can run: torch's private device, whose tensors hold CPU tensors.

As on a GPU, an operation on tensors of two devices fails, and numpy cannot read a tensor of the device. Code that runs
here moves all its tensors. What a real device computes differently, such as sums in another order, is not seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
_COPIES = ("aten::_to_copy", "aten::copy_", "aten::to.")
_INDEXED = ("aten::index.", "aten::index_put", "aten::_index_put", "aten::_unsafe_index")  # take indices of the CPU


class There(torch.Tensor):
    """A tensor on the device. `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "There":
        self = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        self.held = held
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        return self.held.tolist()

    def __getitem__(self, index: Any) -> torch.Tensor:
        return super().__getitem__(_with_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_with_tensors(index), value)

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        if id(self) not in memo:
            with torch.inference_mode(False):
                copied: Any = There(self.held.clone())
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return memo[id(self)]

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def __repr__(self) -> str:
        return f"There({self.held})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _with_tensors(index: Any) -> Any:
    # torch would make a tensor of a list out of reach of `_Mode`.
    if isinstance(index, tuple):
        return tuple(map(_with_tensors, index))
    return torch.tensor(index, device=torch.device(NAME, 0)) if isinstance(index, list) else index


class _Mode(TorchDispatchMode):
    """Makes new tensors on the device where they are asked for."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    there = any(isinstance(one, There) for one in tensors)
    name = function._schema.name + "." + function._schema.overload_name
    devices = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.device)]
    if devices:
        there = devices[0].type == NAME
    elif name.startswith("aten::copy_"):
        there = isinstance(args[0], There)
    elif there and not name.startswith((*_COPIES, *_INDEXED)):
        here = [one for one in tensors if not isinstance(one, There) and one.dim()]
        if here:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {NAME}:0 and cpu: {name}")
    held_args, held_kwargs = tree_map(_held, (args, kwargs))
    result = function(*held_args, **held_kwargs)
    if torch.Tag.inplace_view in function.tags and isinstance(args[0], There):
        with no_dispatch():  # give the tensor itself the new shape too
            function(*args, **kwargs)
    if not there:
        return result
    known = {id(one.held): one for one in tensors if isinstance(one, There)}  # operations in place return what they got
    return tree_map(lambda one: _there(one, known), result)


def _held(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    return value.held if isinstance(value, There) else value


def _there(value: Any, known: dict[int, There]) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if id(value) in known:
        return known[id(value)]
    with torch.inference_mode(False):  # an inference tensor of this kind could not be detached
        return There(value)


_library = torch.library.Library("_", "IMPL")
_ready = False


def _on_cpu_first(make: Any) -> Any:
    # torch.tensor calls the device with neither the mode nor the kernels of tensors like ours.
    def tensor(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        there = device is not None and torch.device(device).type == NAME
        return make(*args, **kwargs).to(device) if there else make(*args, device=device, **kwargs)

    return tensor


@contextmanager
def pretended() -> Iterator[torch.device]:
    """Within this context the device exists."""
    global _ready

    if not _ready:
        _setup_privateuseone_for_python_backend(NAME)
        device: Any = getattr(torch, NAME)
        device.get_amp_supported_dtype = lambda: [torch.bfloat16]
        # What torch calls out of reach of `_Mode`, as in x[mask] = 0
        _library.fallback(lambda function, *args, **kwargs: _run(function, args, kwargs), "PrivateUse1")
        _ready = True
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # weights that are tied stay so, as on a GPU
    made = {name: getattr(torch, name) for name in ("tensor", "as_tensor")}
    for name, function in made.items():
        setattr(torch, name, _on_cpu_first(function))
    try:
        with _Mode():
            yield torch.device(NAME, 0)
    finally:
        for name, function in made.items():
            setattr(torch, name, function)
        torch.__future__.set_swap_module_params_on_conversion(swaps)
