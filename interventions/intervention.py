"""The base class of interventions: frozen data that define which sites to edit, when, and how strongly."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor

from interventions.affine import Affine
from interventions.scope import EVERYWHERE, Scope, StepContext
from interventions.sites import Site

Edit = Callable[[Tensor, StepContext], Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervention(ABC):
    """An edit of the activations at some sites, as data.

    A subclass is a `@dataclass(frozen=True, eq=False)` that implements `sites` and `at`; see `interventions/steer.py`.
    `interventions/store.py` can store it if its fields are numbers, strings, booleans, None, Tensors, Sites, Neurons,
    Scopes, tuples of these, or dictionaries of these with string keys.

    Args:
        scope: the steps, positions and examples to edit.
        strength: how far activations move towards the edited ones: 0 leaves them unchanged, bit for bit, 1 replaces
            them, 0.5 gives the mean of both, and 2 extrapolates.
    """

    scope: Scope = EVERYWHERE
    strength: float = 1.0

    @property
    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """The sites that are edited, each once."""

    @abstractmethod
    def at(self, site: Site) -> Edit:
        """Return the function that edits an activation of `site`. It is used while the intervention is attached.

        The function receives the activation `(batch, time, units)` or `(batch, units)`, with units last whatever the
        layout of the module's output, and a `StepContext`. It returns a new tensor of the same shape, dtype and device,
        or its argument to change nothing. It must not write to its argument, which autograd may need, and must not
        return a tensor that it keeps, because later modules may write to it.

        Use the intervention's tensors as `CastLike(tensor)(x)`. If the tensors are trained, compute everything that
        depends on them within the function. `scope` and `strength` are applied outside the function.
        """

    def affine(self, site: Site) -> Affine:
        """Return the intervention at `site` as an affine map, for `interventions/fold.py`.

        Raises:
            ValueError: If it is not an affine map; the message says why.
        """
        raise ValueError(f"{type(self).__name__} cannot be folded: it is not an affine map of activations.")

    @property
    def timed(self) -> bool:
        """Whether the edit depends on the generation step or the position, which the hooks then track."""
        return self.scope.timed

    @property
    def reads_inputs(self) -> bool:
        """Whether the edit needs the arguments of the site's module (`StepContext.inputs`)."""
        return False

    def parameters(self) -> list[Tensor]:
        """Return the tensors that require gradients, each once, for an optimizer."""
        tensors = (tensor for field in fields(self) for tensor in _tensors(getattr(self, field.name)))
        return list({id(tensor): tensor for tensor in tensors if tensor.requires_grad}.values())


@dataclass(frozen=True, eq=False)
class Custom(Intervention):
    """Edit one site by your own function.

    The function receives the activation with units last and returns a new tensor of the same shape; it must not write
    to its argument. A `Custom` cannot be saved, because files contain no code.
    """

    site: Site
    function: Callable[[Tensor], Tensor]

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    def at(self, site: Site) -> Edit:
        return lambda x, context: self.function(x)


class CastLike:
    """Cast a tensor to the dtype and device of the activation that it is called with.

    The last cast is cached, unless the tensor requires gradients, which must flow through each cast. A `CastLike` that
    was created in inference mode can be used in training.
    """

    def __init__(self, tensor: Tensor) -> None:
        if tensor.is_inference():
            with torch.inference_mode(False):
                tensor = tensor.clone()
        self.tensor = self.cast = tensor

    def __call__(self, x: Tensor) -> Tensor:
        cached = self.cast
        if cached.dtype == x.dtype and cached.device == x.device:
            return cached
        if self.tensor.requires_grad:
            return self.tensor.to(x.device, x.dtype)
        with torch.inference_mode(False):
            self.cast = self.tensor.to(x.device, x.dtype)
        return self.cast


class MaskedReplace:
    """Replace the activations of the units in `mask` `(units,)`, and keep the others bit for bit."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, edited: Tensor | float, x: Tensor) -> Tensor:
        if self.mask.device != x.device:
            with torch.inference_mode(False):
                self.mask = self.mask.to(x.device)
        return x.masked_fill(self.mask, edited) if isinstance(edited, float) else torch.where(self.mask, edited, x)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = tuple(cast(Mapping[str, Any], value).values())
    if isinstance(value, (tuple, list)):
        return [tensor for part in cast(Iterable[Any], value) for tensor in _tensors(part)]
    return []
