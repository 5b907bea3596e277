"""Adaptations put on a live model and taken off again, bit for bit, one on top of another.

applied = apply(model, "outputs/adapt/scottish")     # the weights that differ are now the adaptation's
...
applied.remove()                                     # and now what they were before
"""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from adapt.errors import InputError
from adapt.models.checkpoint import (
    adapted_fingerprint,
    adapted_tensors,
    model_fingerprint,
    read_adaptation,
    weights,
)
from adapt.models.model import Model
from interventions.bits import fingerprint


class Applied:
    """An adaptation that stands in a model's weights, and a copy of the tensors that it replaced.

    As a context manager it is removed at the end of the block. `fingerprint` is the model's with it.
    """

    def __init__(self, model: Model, reference: str, named: str, header: dict[str, Any], before: dict[str, Tensor]):
        self.model, self.reference, self.fingerprint = model, reference, named
        self._header, self._before = header, before
        self._after = fingerprint(_some(model, before))

    def remove(self) -> None:
        """Take it off: the model is what it was before, bit for bit.

        Raises:
            InputError: another one was applied on top and must go first, this one is off already, or its weights were
                changed since, so that going back would undo that too; nothing was changed.
        """
        stack = _stack(self.model)
        if self not in stack:
            raise InputError(f"'{self.reference}' is not on this model: it was removed before.")
        if stack[-1] is not self:
            raise InputError(f"'{stack[-1].reference}' was applied on top of '{self.reference}'. Remove that first.")
        if fingerprint(_some(self.model, self._before)) != self._after:
            raise InputError(f"The weights of '{self.reference}' on this model were changed since it was applied.")
        _write(self.model, self._before, self._header)
        stack.pop()

    def __enter__(self) -> "Applied":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()


def apply(model: Model, adaptation: str, check: bool = True) -> Applied:
    """Put an adaptation on a model that is its base; what differs is copied into the model's own parameters.

    Several go on top of each other where each was made from what is below it, and come off in the other order. `check`
    reads the whole model twice, for its fingerprint before and after; without it, it is taken on trust that this is the
    base, unless another adaptation was applied here.

    Raises:
        InputError: there is no such adaptation, it is damaged, it belongs to another base, or it has an output layer of
            another size, which a live model cannot take; the model is as before.
    """
    path, facts = read_adaptation(adaptation)
    stack = _stack(model)
    wanted = facts["base"]["fingerprint"]
    found = model_fingerprint(model) if check else stack[-1].fingerprint if stack else wanted
    if found != wanted:
        below = f", on which there is '{stack[-1].reference}'" if stack else ""
        raise InputError(
            f"The adaptation '{adaptation}' belongs to another base: it was made from fingerprint {wanted[:12]}, and "
            f"this model{below} has {found[:12]}."
        )
    header, after = _json(model.header()), facts["model"]
    tensors, exact = adapted_tensors(path, facts, model)
    own = weights(model.net)
    fits = all(name in own and own[name].shape == tensor.shape for name, tensor in tensors.items())
    if not fits or (header != after and model.with_header(after) is not model):
        raise InputError(
            f"The adaptation '{adaptation}' has another alphabet than its base, and an output layer of another size. "
            "Load it whole: load_model."
        )
    before = {name: own[name].detach().clone() for name in tensors}
    _write(model, tensors, after)
    try:
        named = adapted_fingerprint(path, facts, model, exact) if check else facts["fingerprint"]
    except InputError:
        _write(model, before, header)
        raise
    stack.append(Applied(model, adaptation, named, header, before))
    return stack[-1]


@torch.no_grad()
def _write(model: Model, tensors: Mapping[str, Tensor], header: dict[str, Any]) -> None:
    # By the state dict: a module of which rows train brings them up to it.
    model.net.load_state_dict(tensors, strict=False)
    if _json(model.header()) != header:
        model.with_header(header)


def _stack(model: Model) -> list[Applied]:
    """What is on a model, the last on top. It is an attribute, so that it lives and dies with the model."""
    return vars(model).setdefault("_applied", [])


def _some(model: Model, names: Mapping[str, Any]) -> dict[str, Tensor]:
    own = weights(model.net)
    return {name: own[name] for name in names}


def _json(header: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(header))
