"""How unsure a model is of recordings or sentences that have no reference, one number per example.

- `gradient_lengths`: the expected gradient length (Settles & Craven 2008; for CTC: Huang et al. 2016, arXiv
  1612.03226), with the model's own hypothesis in place of the unknown reference.
- `entropies`: the mean entropy of the output distributions.
- `disagreements`: how much the hypotheses at other speeds of speech differ.

A high value means that the model expects to learn much from the reference, or is unsure of it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.kinds import with_text
from adapt.data.loader import Batch, Loader
from adapt.data.text import strip_punctuation
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.introspect.loss_gradients import example_gradients
from adapt.models.batch_memory import within_budget
from adapt.models.inference import eval_mode
from adapt.models.model import CTCModel, DecoderModel, Model
from adapt.models.seq2seq import IGNORED, references
from adapt.progress import track

SPEEDS = (0.9, 1.1)


def gradient_lengths(model: Model, examples: Sequence[Example], hypotheses: Sequence[str], loader: Loader) -> Tensor:
    """Return the norm of the gradient of the training loss, with each hypothesis as the reference.

    Args:
        model: The model; it is not changed.
        examples: Recordings or sentence pairs, whose own texts are not used.
        hypotheses: What the model writes for each.
        loader: Batches the examples; each is read alone.

    Returns:
        `(examples,)` float64; NaN for an empty hypothesis, or one that the model could not be trained on.
    """
    lengths = torch.full((len(examples),), math.nan, dtype=torch.float64)
    names = [name for name, _ in model.named_parameters() if name not in model.never_trained]
    usable = [number for number, text in enumerate(hypotheses) if why_unmeasured(model, examples[number], text) is None]
    assumed = [with_text(examples[number], hypotheses[number]) for number in usable]
    sample = TuningData(assumed, (), loader)
    order = _order_of_evaluation(model, assumed, loader)
    for place, gradient in zip(order, example_gradients(model, sample, names), strict=True):
        squares = sum(float(values.double().square().sum()) for values in gradient.values())
        lengths[usable[place]] = math.sqrt(squares)
    return lengths


def entropies(model: Model, examples: Sequence[Example], hypotheses: Sequence[str], loader: Loader) -> Tensor:
    """Return the mean entropy, in nats, of the output distributions of each example.

    The mean is over the time steps of a CTC model, or over the tokens of the hypothesis of a model with a decoder.

    Returns:
        `(examples,)` float64; NaN if the model cannot read its own hypothesis back.
    """
    values = torch.full((len(examples),), math.nan, dtype=torch.float64)
    decoder = isinstance(model, DecoderModel)
    usable = [n for n, text in enumerate(hypotheses) if not decoder or why_unmeasured(model, examples[n], text) is None]
    assumed = [with_text(examples[number], hypotheses[number]) for number in usable]
    loader = within_budget(model, assumed, loader)
    numbers = iter(_order_of_evaluation(model, assumed, loader, single=False))
    device = next(model.parameters()).device
    with eval_mode(model), torch.inference_mode():
        for batch in track(loader.evaluation(assumed, model.reader), "confusion"):
            batch = batch.to(device)
            for steps in _log_probs(model, batch):
                steps = steps.double()
                values[usable[next(numbers)]] = -(steps.exp() * steps).nan_to_num().sum(-1).mean()
    return values


def disagreements(
    model: Model,
    examples: Sequence[Example],
    hypotheses: Sequence[str],
    loader: Loader,
    speeds: Sequence[float] = SPEEDS,
) -> Tensor:
    """Return the mean character error rate of the hypotheses at other speeds against the given ones, at most 1.

    Returns:
        `(examples,)` float64.

    Raises:
        InputError: the model reads text, which has no speed.
    """
    if not model.reads_audio:
        raise InputError("Disagreement compares speeds of speech, and this model reads text. Give another criterion.")
    pairs = [(number, speed) for speed in speeds for number in range(len(examples))]
    loader = within_budget(model, examples, loader)
    batches = loader.once(examples, model.reader, pairs)
    sampler: Any = batches.batch_sampler  # yields lists of (example number, speed)
    numbers: Iterator[int] = iter([number for batch in sampler for number, _ in batch])
    total = torch.zeros(len(examples), dtype=torch.float64)
    device = next(model.parameters()).device
    with eval_mode(model), torch.inference_mode():
        for batch in track(batches, "other speeds"):
            for text in model.task.decode(model, batch.to(device)):
                number = next(numbers)
                total[number] += _difference(hypotheses[number], text)
    return total / len(speeds)


def _difference(one: str, other: str) -> float:
    import jiwer

    one, other = strip_punctuation(one), strip_punctuation(other)
    if not one:
        return float(bool(other))
    return min(1.0, jiwer.cer(one, other))


def why_unmeasured(model: Model, example: Example, hypothesis: str) -> str | None:
    """Return why a hypothesis cannot stand in for the reference; None if it can."""
    if not hypothesis.strip():
        return "the model writes nothing for it."
    try:
        assumed = with_text(example, hypothesis)
        return model.rejection_reason(assumed, len(model.reader.read(example)), True)
    except InputError as error:
        return str(error)


def _order_of_evaluation(model: Model, examples: Sequence[Example], loader: Loader, single: bool = True) -> list[int]:
    """Return the numbers of the examples in the order in which the loader's evaluation yields them."""
    if single:
        loader = replace(loader, batch_seconds=0.0, batch_tokens=0)
    sampler: Any = loader.evaluation(examples, model.reader).batch_sampler  # yields lists of (example number, epoch)
    return [number for batch in sampler for number, _ in batch]


def _log_probs(model: Model, batch: Batch) -> Iterator[Tensor]:
    """Yield the log-probabilities of each example of a batch, `(steps, units)`, without padding."""
    if isinstance(model, CTCModel):
        emissions = model(batch.inputs, batch.lengths)
        for one, length in zip(emissions.log_probs, emissions.lengths.tolist(), strict=True):
            yield one[:length]
    else:
        assert isinstance(model, DecoderModel)
        targets = references(model, batch.examples).to(batch.inputs.device)
        logits = model(batch.inputs, batch.lengths, targets)
        for one, target in zip(logits, targets, strict=True):
            yield one[target != IGNORED].float().log_softmax(-1)
