"""Batches with a single value per channel: one utterance with one time step, which batch norms cannot normalise."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def single_values_in_eval(model: nn.Module) -> Iterator[None]:
    """Within this context, a batch norm in train mode uses its running statistics for a single value per channel.

    One value has no variance, and torch raises an error. The running statistics are then not updated.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]

    def before(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        norm.training = inputs[0].numel() > inputs[0].shape[1]

    def after(norm: nn.Module, *_: Any) -> None:
        norm.training = True

    handles = [norm.register_forward_pre_hook(before) for norm in norms]
    handles += [norm.register_forward_hook(after) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for norm in norms:
            norm.training = True
