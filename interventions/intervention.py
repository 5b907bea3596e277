"""What every intervention is: frozen data that says at which sites it edits activations, when, and how strongly."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from interventions.affine import Affine
from interventions.scope import EVERYWHERE, Scope, StepContext
from interventions.sites import Site

Edit = Callable[[Tensor, StepContext], Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervention(ABC):
    """An edit of the activations at some sites, as data.

    A subclass is a `@dataclass(frozen=True, eq=False)` whose fields are numbers, strings, booleans, None, Tensors,
    Sites, Neurons, Scopes, or tuples of these, or dictionaries of these with string keys: then it can be stored,
    without code of its own for that (`interventions/store.py`). It gives `sites` and `at`, as `interventions/steer.py`.

    `scope` says when it edits, `strength` how far towards its result: 0 leaves activations as they are, bit for bit,
    1 gives the edited ones, 0.5 the mean of both, 2 goes as far again beyond. Both are applied around `at`.
    """

    scope: Scope = EVERYWHERE
    strength: float = 1.0

    @property
    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """Where it edits; each site once."""

    @abstractmethod
    def at(self, site: Site) -> Edit:
        """Return the function that edits an activation of `site` at a moment, for as long as it is put on a model.

        The activation comes units last, `(batch, time, units)` or `(batch, units)`, whichever axis the module's output
        has them on. The function returns the edited one, a new tensor of the same shape, dtype and device: it writes
        into nothing that it is given, for autograd may need it and others may hold it, and returns no tensor that it
        keeps, for what comes behind may write into that. To change nothing it returns what it was given.
        Tensors of the intervention come as `CastLike(tensor)(x)`. Where they are trained, all that is computed from them is
        computed in the function, anew for each call.
        """

    def affine(self, site: Site) -> Affine:
        """Return the affine map that it is at `site`, the same at every step, for `interventions/fold.py`.

        Raises:
            ValueError: it is none, and why.
        """
        raise ValueError(f"{type(self).__name__} cannot be folded: it is not known to be an affine map of activations.")

    @property
    def timed(self) -> bool:
        """Whether it must know the moment of a call; then the hooks keep count of generation steps."""
        return self.scope.timed

    @property
    def reads_inputs(self) -> bool:
        """Whether its edit needs what the site's module was called with (`StepContext.inputs`)."""
        return False

    def parameters(self) -> list[Tensor]:
        """Its tensors that are trained (`requires_grad`), each once: what an optimizer is given."""
        found = (tensor for field in fields(self) for tensor in _tensors(getattr(self, field.name)))
        return list({id(tensor): tensor for tensor in found if tensor.requires_grad}.values())


@dataclass(frozen=True, eq=False)
class Custom(Intervention):
    """Edit one site by a function of yours: it gets the activation units last, and returns a new one of its shape.

    It must not write into the activation. It cannot be saved: a file holds no code.
    """

    site: Site
    function: Callable[[Tensor], Tensor]

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    def at(self, site: Site) -> Edit:
        return lambda x, now: self.function(x)


class CastLike:
    """A tensor in the dtype and on the device of whatever activation it is called with.

    What it was cast to last is kept, unless the tensor is trained: then gradients flow through each cast. It may be
    made in inference mode and used in training.
    """

    def __init__(self, tensor: Tensor) -> None:
        if tensor.is_inference():
            with torch.inference_mode(False):
                tensor = tensor.clone()
        self.tensor = self.cast = tensor

    def __call__(self, x: Tensor) -> Tensor:
        cast = self.cast
        if cast.dtype == x.dtype and cast.device == x.device:
            return cast
        if self.tensor.requires_grad:
            return self.tensor.to(x.device, x.dtype)
        with torch.inference_mode(False):
            self.cast = self.tensor.to(x.device, x.dtype)
        return self.cast


class MaskedReplace:
    """Put edited activations in the place of some units', `mask` `(units,)`; the others stay, bit for bit."""

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
        value = tuple(value.values())
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, (tuple, list)) else []
