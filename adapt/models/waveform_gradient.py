"""Gradients with respect to the waveform: through the features of a model, which training leaves out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
R = TypeVar("R")

_wanted: ContextVar[bool] = ContextVar("waveform_gradient", default=False)


@contextmanager
def waveform_gradient(model: nn.Module) -> Iterator[None]:
    """Within the block, features have a gradient with respect to the waveform, and the weights of `model` have none.

    What requires a gradient is restored afterwards.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    token = _wanted.set(True)
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        _wanted.reset(token)


def gradient_wanted() -> bool:
    """Return whether features need a gradient: within `waveform_gradient`, where autograd is on."""
    return _wanted.get() and torch.is_grad_enabled()


def no_grad_unless_wanted(function: Callable[P, R]) -> Callable[P, R]:
    """Compute features without a gradient, except within `waveform_gradient`."""

    @wraps(function)
    def computed(*given: P.args, **named: P.kwargs) -> R:
        with torch.set_grad_enabled(gradient_wanted()):
            return function(*given, **named)

    return computed
