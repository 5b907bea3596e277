"""A model's answers to many examples, in their order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.models.task import Task
from adapt.progress import track


def decode_examples(
    model: nn.Module, task: Task, examples: Sequence[Example], loader: Loader, what: str = "answering"
) -> list[str]:
    """Return the model's text for each example; the model's mode (train or eval) is as before afterwards."""
    texts: dict[int, str] = {}
    device = next(model.parameters()).device
    batches = loader.evaluation(examples, model.reader)
    numbers = iter([number for batch in batches.batch_sampler for number, _ in batch])
    with eval_mode(model), torch.inference_mode():
        for batch in track(batches, what):
            texts |= {next(numbers): text for text in task.decode(model, batch.to(device))}
    return [texts[number] for number in range(len(examples))]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a block; afterwards each of its parts is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
