"""Helpers for hooks: find the module of a site, its hidden state with units last, and the mask of valid steps."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from interventions.sites import Site, length_mask

# A function that returns the number of valid time steps of each example at a site, `(batch,)`. Later steps are padding.
Lengths = Callable[[Site], Tensor]
Function = TypeVar("Function", bound=Callable[..., Any])


class NeverRanError(RuntimeError):
    """A site was to be captured or edited, but the model never called its module."""


def module_at(model: nn.Module, site: Site) -> nn.Module:
    """Return the module whose output is the site. Raises ValueError if the model has no such module."""
    module = model
    try:
        # Reading `_modules` is faster than `get_submodule`, which performs more checks.
        for part in site.name.split(".") if site.name else ():
            module = module._modules.get(part) or module.get_submodule(part)  # pyright: ignore[reportPrivateUsage]
        return module
    except AttributeError:
        raise ValueError(
            f"The model has no module '{site.name}'. A site's name is a path that starts at the model passed here, a "
            f"{type(model).__name__}. find_sites(model) lists the paths."
        ) from None


def units_last(hidden: Tensor, site: Site) -> Tensor:
    """Return a hidden state as a view `(batch, time, units)`. Raises ValueError if its shape does not fit the site."""
    shape, axis = hidden.shape, site.unit_axis
    if len(shape) < 2 or axis >= len(shape) or shape[axis] != site.units:
        raise ValueError(
            f"'{site.name}' returned {tuple(shape)}; expected a batch with {site.units} units on axis {axis}. Correct "
            "the site's unit_axis and units (site_at), and give the model a batch."
        )
    if axis == -1:
        return hidden
    return hidden.mT if axis == 1 and len(shape) == 3 else hidden.movedim(axis, -1)  # mT takes half the time of movedim


def hidden_state(output: Any, site: Site) -> Tensor:
    """Return the hidden state in a block's output: the first tensor of a tuple, a list or a `ModelOutput`."""
    parts: Iterable[Any] = ()
    if isinstance(output, Mapping):
        parts = cast(Mapping[Any, Any], output).values()
    elif isinstance(output, (tuple, list)):
        parts = cast(Iterable[Any], output)
    for part in parts:
        if isinstance(part, Tensor):
            return part
    kind = type(cast(object, output)).__name__
    raise ValueError(f"'{site.name}' returned no tensor, but a {kind}. Choose a module within it.")


def with_hidden(output: Any, hidden: Tensor, edited: Tensor) -> Any:
    """Return the output with its hidden state replaced."""
    if isinstance(output, Mapping):
        mapping = cast(Mapping[str, Any], output)
        key = next(key for key, part in mapping.items() if part is hidden)
        if is_dataclass(mapping):
            return replace(cast(Any, mapping), **{key: edited})
        return cast(Any, type(mapping))({**mapping, key: edited})
    sequence, kind = cast(Sequence[Any], output), cast(Any, type(output))
    place = next(place for place, part in enumerate(sequence) if part is hidden)
    parts = [*sequence[:place], edited, *sequence[place + 1 :]]
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)  # named tuples take arguments


def valid_mask(lengths: Tensor, x: Tensor, site: Site) -> Tensor:
    """Return the mask `(batch, time)` of the valid steps of an activation, units last. Raises ValueError."""
    if lengths.shape != x.shape[:1] or x.dim() < 3:
        raise ValueError(
            f"'{site.name}' returned {tuple(x.shape)}, units last, with lengths {tuple(lengths.shape)}: expected one "
            "length for each row of a batch with a time axis."
        )
    return length_mask(lengths.to(x.device), x.shape[1])


def uncompiled(function: Function) -> Function:
    """Exclude a function from `torch.compile`, which then breaks the graph at its calls.

    Use it for functions that read a counter that each call changes: the compiler would recompile every call.
    """
    # Importing the compiler takes seconds, and nothing can have been compiled before it was imported.
    if "torch._dynamo" not in sys.modules:
        return function
    return cast(Function, torch.compiler.disable(function))  # pyright: ignore[reportUnknownMemberType]


def forget_compiled() -> None:
    """Make `torch.compile` recompile, because compiled code ignores hooks that are registered later."""
    compiler = sys.modules.get("torch._dynamo.convert_frame")
    if compiler is not None and getattr(getattr(compiler, "input_codes", None), "seen", True):
        torch.compiler.reset()
