"""Estimate how long a learning curve, or measuring candidates, takes: a few examples are timed, and nothing is kept."""

import copy
import time
from collections.abc import Sequence
from typing import Any, cast

from adapt.data.batches import BatchesByLength
from adapt.data.example import Example
from adapt.data.loader import Loader, collate
from adapt.data.manifest import Splits
from adapt.data.subset import evenly
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.planning.candidates import measure
from adapt.planning.curve import Subset

_EXAMPLES = 4


def curve_seconds(base: Loaded, splits: Splits, runs: Sequence[Subset], loader: Loader) -> float:
    """Return about how many seconds the runs of a learning curve take on the CPU if all weights train.

    Args:
        base: The model; it is not changed.
        splits: The data; each epoch decodes `validation`, and each run decodes `test`.
        runs: The runs (`adapt.planning.curve.subsets`).
        loader: Batches the examples.
    """
    step = _step_seconds(base.model, splits.train, loader)
    once = _decode_seconds(base.model, splits.test, loader)
    lengths = sum(base.model.reader.length(example) for run in runs for example in run.train * run.epochs)
    decoded = sum(run.epochs * len(splits.validation) + len(splits.test) for run in runs)
    return step * lengths + once * decoded


def measuring_seconds(loaded: Loaded, candidates: Sequence[Example], names: Sequence[str], loader: Loader) -> float:
    """Return about how many seconds measuring candidates takes on the CPU, from a few of them."""
    some = evenly(candidates, _EXAMPLES)
    started = time.perf_counter()
    measure(loaded, some, names, loader)
    return (time.perf_counter() - started) / len(some) * len(candidates)


def _step_seconds(model: Model, examples: Sequence[Example], loader: Loader) -> float:
    """Return the time of a training step per second or token of its batch: the second of two steps."""
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    batches = loader.training(examples, model.reader)
    sampler: Any = cast(BatchesByLength, batches.batch_sampler)
    keys = sorted(sampler, key=len)
    batch = collate([batches.dataset[key] for key in keys[len(keys) // 2]])
    length = sum(model.reader.length(example) for example in batch.examples)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        model.task.loss(model, batch).backward()
        seconds = time.perf_counter() - started
    return seconds / length


def _decode_seconds(model: Model, examples: Sequence[Example], loader: Loader) -> float:
    some = evenly(examples, _EXAMPLES)
    started = time.perf_counter()
    decode_examples(model, model.task, some, loader)
    return (time.perf_counter() - started) / len(some)
