"""Compute the running statistics of batch norms again, from examples, after weights were blended.

Interpolated statistics are the default: docs/guides/blending.md has the comparison.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.models.batch_memory import within_budget
from adapt.models.eval_mode import eval_mode
from adapt.models.model import Model
from adapt.progress import track


def running_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms of a model that have running statistics."""
    return [one for one in model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]


def recompute_statistics(model: Model, examples: Sequence[Example], loader: Loader) -> int:
    """Replace the running statistics of all batch norms by those of examples, at speed 1 and without dropout.

    Each batch counts the same (Izmailov et al. 2018, section 3.2).

    Args:
        model: The model to change.
        examples: The examples, for instance training examples of target and source.
        loader: Batches the examples.

    Returns:
        The number of batch norms. Without any, nothing is run.
    """
    norms = running_norms(model)
    if not norms or not examples:
        return 0
    device = next(model.parameters()).device
    with eval_mode(model), _averaging(norms), torch.no_grad():
        for batch in track(within_budget(model, examples, loader).evaluation(examples, model.reader), "statistics"):
            model.task.loss(model, batch.to(device))
    return len(norms)


@contextmanager
def _averaging(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Within this context, batch norms average the statistics of all batches."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum, norm.training = momentum, False
