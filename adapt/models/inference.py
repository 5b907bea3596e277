"""Decode many examples with a model."""

from collections.abc import Sequence
from typing import Any

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.models.batch_memory import within_budget
from adapt.models.devices import answering, device_of
from adapt.models.eval_mode import eval_mode as eval_mode
from adapt.models.model import Model
from adapt.models.task import Task
from adapt.progress import track


def decode_examples(
    model: Model, task: Task, examples: Sequence[Example], loader: Loader, what: str = "decoding"
) -> list[str]:
    """Return the model's text for each example, in their order.

    The model runs in eval mode, and in its own precision; its mode is restored afterwards.

    Args:
        model: The model.
        task: The task that decodes; usually `model.task`.
        examples: Utterances or sentence pairs to decode.
        loader: Batches the examples.
        what: The label of the progress bar.
    """
    texts: dict[int, str] = {}
    device = device_of(model)
    batches = within_budget(model, examples, loader).evaluation(examples, model.reader)
    sampler: Any = batches.batch_sampler  # yields lists of (example number, speed)
    numbers = iter([number for batch in sampler for number, _ in batch])
    with answering(model):
        for batch in track(batches, what):
            texts |= {next(numbers): text for text in task.decode(model, batch.to(device))}
    return [texts[number] for number in range(len(examples))]
