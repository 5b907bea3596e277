"""Apply adaptations to a model in memory and remove them again, bit for bit. Several can be stacked.

applied = apply(model, "outputs/adapt/scottish")     # the model now has the adaptation's weights
...
applied.remove()                                     # and now its previous weights again
"""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from adapt.errors import InputError
from adapt.models.adaptation_files import adapted_fingerprint, adapted_tensors, read_adaptation
from adapt.models.model import Model
from adapt.models.state import model_fingerprint, weights
from interventions.bits import fingerprint


class Applied:
    """An adaptation that was applied to a model, with a copy of the replaced tensors.

    As a context manager, it is removed at the end of the block.

    Args:
        model: The model, which already has the adaptation's weights.
        reference: The reference of the adaptation.
        adapted: The model's fingerprint with the adaptation.
        header: The model's header before the adaptation was applied.
        before: The replaced tensors.
    """

    def __init__(
        self, model: Model, reference: str, adapted: str, header: dict[str, Any], before: dict[str, Tensor]
    ) -> None:
        self.model, self.reference, self.fingerprint = model, reference, adapted
        self._header, self._before = header, before
        self._after = fingerprint(_select(model, before))

    def remove(self) -> None:
        """Remove the adaptation: restore the replaced tensors, bit for bit.

        Raises:
            InputError: another adaptation was applied on top, this one was already removed, or its weights were changed
                since. The model stays unchanged.
        """
        stack = _stack(self.model)
        if self not in stack:
            raise InputError(f"'{self.reference}' is not applied to this model: it was already removed.")
        if stack[-1] is not self:
            raise InputError(f"'{stack[-1].reference}' was applied on top of '{self.reference}'. Remove it first.")
        if fingerprint(_select(self.model, self._before)) != self._after:
            raise InputError(f"The weights of '{self.reference}' on this model were changed since it was applied.")
        _write(self.model, self._before, self._header)
        stack.pop()

    def __enter__(self) -> "Applied":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()


def apply(model: Model, adaptation: str, check: bool = True) -> Applied:
    """Copy an adaptation's tensors into a model, which must be its base.

    Adaptations can be stacked if each was made from the model below it; they are removed in reverse order.

    Args:
        model: The base of the adaptation.
        adaptation: The folder of an `adapt` run.
        check: Whether to check the model's fingerprint before and after. Without it, the model is assumed to be the
            base, unless another adaptation was applied to it.

    Raises:
        InputError: there is no such adaptation, it is damaged, it belongs to another base, or its output layer has
            another size. The model stays unchanged.
    """
    path, facts = read_adaptation(adaptation)
    stack = _stack(model)
    expected = facts["base"]["fingerprint"]
    actual = model_fingerprint(model) if check else stack[-1].fingerprint if stack else expected
    if actual != expected:
        below = f" with '{stack[-1].reference}' applied" if stack else ""
        raise InputError(
            f"The adaptation '{adaptation}' belongs to another base: it was made from fingerprint {expected[:12]}, but "
            f"this model{below} has {actual[:12]}."
        )
    header, after = _json(model.header()), facts["model"]
    tensors, exact = adapted_tensors(path, facts, model)
    current = weights(model.net)
    fits = all(name in current and current[name].shape == tensor.shape for name, tensor in tensors.items())
    if not fits or (header != after and model.with_header(after) is not model):
        raise InputError(
            f"The adaptation '{adaptation}' has another alphabet than its base, and therefore an output layer of "
            "another size, which cannot be applied. Load the adapted model by load_model instead."
        )
    before = {name: current[name].detach().clone() for name in tensors}
    _write(model, tensors, after)
    try:
        adapted = adapted_fingerprint(path, facts, model, exact) if check else facts["fingerprint"]
    except InputError:
        _write(model, before, header)
        raise
    stack.append(Applied(model, adaptation, adapted, header, before))
    return stack[-1]


@torch.no_grad()
def _write(model: Model, tensors: Mapping[str, Tensor], header: dict[str, Any]) -> None:
    # Through the state dict, which also updates modules that train some rows only.
    model.net.load_state_dict(tensors, strict=False)
    if _json(model.header()) != header:
        model.with_header(header)


def _stack(model: Model) -> list[Applied]:
    """Return the adaptations applied to a model, the newest last. The list is an attribute of the model itself."""
    return vars(model).setdefault("_applied", [])


def _select(model: Model, names: Mapping[str, Any]) -> dict[str, Tensor]:
    current = weights(model.net)
    return {name: current[name] for name in names}


def _json(header: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(header))
