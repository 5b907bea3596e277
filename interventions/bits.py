"""Which weights are the same, bit for bit, and the fingerprint that names a model by its weights."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def changed_bits(before: Tensor, after: Tensor) -> Tensor:
    """Return a bool tensor, True where the two hold different bits: -0.0 differs from 0.0, and a NaN equals itself.

    Raises:
        ValueError: the shapes or dtypes differ, so that elements cannot be compared one by one.
    """
    if before.shape != after.shape or before.dtype != after.dtype:
        raise ValueError(
            f"Expected two tensors alike, got {tuple(before.shape)} {before.dtype} "
            f"and {tuple(after.shape)} {after.dtype}."
        )
    return _as_integers(before) != _as_integers(after)


def fingerprint(state: Mapping[str, Tensor], labels: tuple[str, ...] = ()) -> str:
    """Return the SHA-256 of every tensor's name, dtype, shape and bytes, in the order of names, and of the labels.

    Two models with one fingerprint compute the same: it is what an adaptation names its base by.
    """
    digest = hashlib.sha256(json.dumps(labels).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _as_integers(tensor: Tensor) -> Tensor:
    # A view of another width needs a dimension to divide, which a scalar has not; reshaping gives it one.
    return tensor.detach().contiguous().reshape(-1).view(_INTEGERS[tensor.element_size()]).reshape(tensor.shape)
