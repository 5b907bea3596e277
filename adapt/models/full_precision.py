"""Compute features in 32 bits, also where the network around them computes in 16."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Switch off automatic mixed precision in a method whose first argument is a tensor, on the device of the tensor.

    16 bits are too coarse for a spectrogram.
    """

    @wraps(function)
    def exact(*given: P.args, **named: P.kwargs) -> R:
        tensor: Any = given[1]
        with torch.autocast(tensor.device.type, enabled=False):
            return function(*given, **named)

    return exact
