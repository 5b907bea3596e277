"""Train on pseudo-labels whose tokens count by the trust in them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.data.loader import Batch
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.models.model import DecoderModel, Model
from adapt.models.seq2seq import IGNORED, training_targets
from adapt.unlabelled.labels import WEIGHTS


def token_weights(examples: Sequence[Example], targets: Tensor) -> Tensor:
    """Return the weight of each target token, `(batch, tokens)`: 1 for an example without weights of its own.

    A target with timestamps (`adapt.models.whisper_timestamps`) has one token more than its weights: that before its
    end, which counts 1.
    """
    weights = torch.ones(targets.shape, device=targets.device)
    for row, example in enumerate(examples):
        own = example.extra.get(WEIGHTS) if isinstance(example, (Utterance, Recording, Pair)) else None
        count = int((targets[row] != IGNORED).sum())
        if own is not None and len(own) == count - 1:
            own = (*own[:-1], 1.0, own[-1])
        if own is not None and len(own) == count:
            weights[row, :count] = torch.tensor(own, device=targets.device)
    return weights


def weighted_loss(model: DecoderModel, batch: Batch) -> Tensor:
    """Return the mean cross entropy of a batch, in nats, with the tokens weighted by `token_weights`."""
    targets = training_targets(model, batch)
    logits = model(batch.inputs, batch.lengths, targets)
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    weights = token_weights(batch.examples, targets).flatten() * (targets.flatten() != IGNORED)
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)


@contextmanager
def trusting(model: Model) -> Iterator[None]:
    """Within this block, copies that are made of a decoder train with `weighted_loss`."""
    task = model.task
    if isinstance(model, DecoderModel):
        model.task = replace(task, loss=weighted_loss)
    try:
        yield
    finally:
        model.task = task
