"""Compare weights bit for bit, and identify a model by a fingerprint of its weights."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def changed_bits(before: Tensor, after: Tensor) -> Tensor:
    """Return a bool tensor that is True where the bits differ: 0.0 and -0.0 differ, and a NaN equals itself.

    Raises:
        ValueError: If the shapes or dtypes differ.
    """
    if before.shape != after.shape or before.dtype != after.dtype:
        raise ValueError(
            f"Expected two tensors of the same shape and dtype, got {tuple(before.shape)} {before.dtype} "
            f"and {tuple(after.shape)} {after.dtype}."
        )
    return _as_integers(before) != _as_integers(after)


def fingerprint(state: Mapping[str, Tensor], labels: tuple[str, ...] = ()) -> str:
    """Return the SHA-256 of the labels and of each tensor's name, dtype, shape and bytes, sorted by name.

    Models with equal fingerprints have identical weights. An adaptation identifies its base model by the fingerprint.
    """
    digest = hashlib.sha256(json.dumps(labels).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(cast(Any, tensor.reshape(-1).view(torch.uint8).numpy()))  # a buffer, which numpy does not declare
    return digest.hexdigest()


def _as_integers(tensor: Tensor) -> Tensor:
    # A scalar must be reshaped, because view() to a dtype of another width needs at least one dimension.
    return tensor.detach().contiguous().reshape(-1).view(_INTEGERS[tensor.element_size()]).reshape(tensor.shape)
