"""Keep batches within memory: measure on one example what a batch takes, and bound the batches by it.

A forward pass keeps tensors for the backward pass. Those of the longest example are counted, and divided by its padded
length. The count depends on the model and the example only, not on what is free, so the same budget gives the same
batches.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from adapt.data.batches import BatchesByLength
from adapt.data.example import Example
from adapt.data.loader import Loader, collate
from adapt.errors import InputError
from adapt.memory import check_memory, gigabytes
from adapt.models.devices import device_of, free_memory
from adapt.models.eval_mode import eval_mode
from adapt.models.model import DecoderModel, Model

log = logging.getLogger(__name__)

STEP = 1.5  # at its peak, a training step takes this times what the forward pass keeps
GRADIENTS = 2.0  # the same for the gradients of all sites, for which activations are copied
_ADVICE = "Give a smaller batch_seconds (batch_tokens for text), or memory= with the GB that a batch may take."
Context = Callable[[], AbstractContextManager]


def keep_within_memory(
    model: Model, examples: Sequence[Example], loader: Loader, context: Context = nullcontext, trains: bool = True
) -> Loader:
    """Return a loader whose batches of these examples keep to its `memory`, and log what a batch takes.

    Without a budget, batches stay as they are, but are refused if they do not fit into what is free.

    Args:
        model: The model. In training, only what requires a gradient counts.
        examples: The examples to read.
        loader: The loader.
        context: Makes a context manager that is entered around the forward pass, for mixed precision.
        trains: Whether batches are for training, which needs the loss; otherwise for the gradients of all sites.

    Raises:
        InputError: An example does not fit by itself, or, without a budget, a batch does not.
    """
    if not examples:
        return loader
    reader, factor = model.reader, STEP if trains else GRADIENTS
    slowest = min(loader.speeds) if model.reads_audio else 1.0
    lengths = [reader.length(example) / slowest for example in examples]
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    free = free_memory(device_of(model))
    limit = free if loader.memory is None else loader.memory * 1e9
    # In eval mode, nothing is random and nothing is updated. Where a caller only decodes, no pass would keep anything.
    with eval_mode(model), torch.inference_mode(False), torch.enable_grad(), context():
        kept = _kept(model, examples[longest], trains, None if limit is None else limit / factor)
    each = factor * kept / (reader.window or lengths[longest] * slowest)  # per second or token of a batch
    if limit is not None and each * (reader.window or lengths[longest]) > limit:
        given = f"{gigabytes(int(limit))} are free" if loader.memory is None else f"memory={loader.memory:g}"
        unit = "s" if model.reads_audio else "tokens"
        raise InputError(
            f"The longest {model.task.example_name} ({lengths[longest]:.4g} {unit}) does not fit into memory "
            f"even by itself: {given}. Give more memory, leave out long examples, or train upper layers only."
        )
    if loader.memory is not None:
        loader = loader.bounded(reader, loader.memory * 1e9 / each)
    sampler = BatchesByLength(lengths, loader.bound(reader), False, 0, most=loader.batch_size, window=reader.window)
    batches = sampler.every()
    needed, most = int(each * max(map(sampler.size, batches))), max(map(len, batches))
    what = f"Batches of up to {most} {model.task.example_name}{'s' if most > 1 else ''}"
    if loader.memory is None and free is not None:
        check_memory(needed, what, _ADVICE, free)
    total = f" A training step takes about {gigabytes(needed + _step_bytes(model))} in all." if trains else ""
    log.info("%s, about %s each.%s", what, gigabytes(needed), total)
    return loader


def within_budget(model: Model, examples: Sequence[Example], loader: Loader) -> Loader:
    """Return a loader whose batches keep to its `memory` in a pass without gradients; unchanged without a budget.

    The bound is that of a pass with gradients, so it is on the safe side.
    """
    return loader if loader.memory is None else keep_within_memory(model, examples, loader, trains=False)


def _step_bytes(model: Model) -> int:
    """Return the bytes of a training step besides its batch: weights, their gradients, and two values of Adam for each.

    `dry_run=true` measures what another optimizer keeps.
    """
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return sum(parameter.nbytes for parameter in model.parameters()) + 3 * trained


class _LimitError(Exception):
    """The forward pass keeps more than the limit."""


def _kept(model: Model, example: Example, trains: bool, limit: float | None) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, weights excluded. It stops above `limit`."""
    weights = {own.untyped_storage().data_ptr() for own in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            if limit is not None and sum(kept.values()) > limit:  # before the machine kills the process
                raise _LimitError
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            if trains:
                batch = collate([(example, model.reader.read(example))])
                model.task.loss(model, batch.to(next(model.parameters()).device))
            else:
                with _gradients_everywhere(model):
                    model(*_dummy(model, example))
    except _LimitError:
        pass
    return sum(kept.values())


def _dummy(model: Model, example: Example) -> tuple[Tensor, ...]:
    # A blank example: one that is only decoded may have a text that the model cannot write.
    length = model.reader.length(example)
    tokens = int(length)
    if model.reads_audio:
        try:
            tokens = len(model.target(example)) if isinstance(model, DecoderModel) else 1
        except InputError:
            tokens = 1
    return model.dummy(round(length * (model.sample_rate or 1)), tokens)


@contextmanager
def _gradients_everywhere(model: Model) -> Iterator[None]:
    # An upper bound of what any pass keeps.
    frozen = [own for own in model.parameters() if not own.requires_grad and own.is_floating_point()]
    for own in frozen:
        own.requires_grad_(True)
    try:
        yield
    finally:
        for own in frozen:
            own.requires_grad_(False)
