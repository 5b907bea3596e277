"""What hooks share: the module at a site, its hidden state with units last, and where it is an example's own."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from interventions.sites import Site, length_mask

# How many time steps of a site's activation are each example's own, `(batch,)`: the others are padding.
Lengths = Callable[[Site], Tensor]
Function = TypeVar("Function", bound=Callable[..., Any])


class NeverRanError(RuntimeError):
    """Something was to be read or edited in a model, and the model ran without that."""


def module_at(model: nn.Module, site: Site) -> nn.Module:
    """The module whose output the site is. Raises ValueError where the model has none."""
    module = model
    try:
        # Straight through the tables: `get_submodule` does the same, and asks more on the way.
        for part in site.name.split(".") if site.name else ():
            module = module._modules.get(part) or module.get_submodule(part)
        return module
    except AttributeError:
        raise ValueError(
            f"The model has no module '{site.name}'. A site's name is a path from the model that is given: is it one "
            f"within {type(model).__name__}? find_sites(model) lists them."
        ) from None


def units_last(hidden: Tensor, site: Site) -> Tensor:
    """A hidden state as `(batch, time, units)`, a view. Raises ValueError where its units are not as the site says."""
    shape, axis = hidden.shape, site.unit_axis
    if len(shape) < 2 or axis >= len(shape) or shape[axis] != site.units:
        raise ValueError(
            f"'{site.name}' put out {tuple(shape)}; expected a batch with {site.units} units on axis {axis}. Give the "
            "site its right unit_axis and units (site_at), and the model a batch."
        )
    if axis == -1:
        return hidden
    return hidden.mT if axis == 1 and len(shape) == 3 else hidden.movedim(axis, -1)  # mT costs half of movedim


def hidden_state(output: Any, site: Site) -> Tensor:
    """The first tensor of a tuple, a list or a `ModelOutput`: the hidden state of a block."""
    parts: Iterable[Any] = ()
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, (tuple, list)):
        parts = output
    for part in parts:
        if isinstance(part, Tensor):
            return part
    raise ValueError(f"'{site.name}' put out no tensor, but {type(output).__name__}. Take a module within it.")


def with_hidden(output: Any, hidden: Tensor, edited: Tensor) -> Any:
    """The same output with the hidden state exchanged."""
    if isinstance(output, Mapping):
        key = next(key for key, part in output.items() if part is hidden)
        return replace(output, **{key: edited}) if is_dataclass(output) else type(output)({**output, key: edited})
    place = next(place for place, part in enumerate(output) if part is hidden)
    parts = [*output[:place], edited, *output[place + 1 :]]
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)


def valid_lengths(lengths: Tensor, x: Tensor, site: Site) -> Tensor:
    """The mask `(batch, time)` of what is each example's own in an activation, units last. Raises ValueError."""
    if lengths.shape != x.shape[:1] or x.dim() < 3:
        raise ValueError(
            f"'{site.name}' put out {tuple(x.shape)}, units last, and lengths {tuple(lengths.shape)} were given: "
            "expected one length for each row of a batch with a time axis."
        )
    return length_mask(lengths.to(x.device), x.shape[1])


def uncompiled(function: Function) -> Function:
    """The function, run as it is where `torch.compile` compiles what is around it: the graph breaks there.

    For what reads a count that each call changes, for which the compiler would compile each call anew.
    """
    # Only once the compiler has been loaded, which takes seconds; before that, nothing has been compiled.
    return torch.compiler.disable(function) if "torch._dynamo" in sys.modules else function


def forget_compiled() -> None:
    """Have `torch.compile` compile anew: code compiled before takes no notice of hooks that come later."""
    compiler = sys.modules.get("torch._dynamo.convert_frame")
    if compiler is not None and getattr(getattr(compiler, "input_codes", None), "seen", True):
        torch.compiler.reset()
