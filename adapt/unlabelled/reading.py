"""What a model reads in examples without labels: its texts, its confidence, and the trust in each token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from torch import Tensor

from adapt.blending.statistics import running_norms
from adapt.data.example import Example
from adapt.data.kinds import with_text
from adapt.data.loader import Batch, Loader
from adapt.models.attention import decoder_attention
from adapt.models.batch_memory import within_budget
from adapt.models.devices import own_random
from adapt.models.eval_mode import eval_mode
from adapt.models.model import CTCModel, DecoderModel, Model
from adapt.models.seq2seq import IGNORED, references, seq2seq_decode
from adapt.progress import track
from adapt.unlabelled.entropy import Entropy, adapted_to, single
from adapt.unlabelled.lexicon import Lexicon
from adapt.unlabelled.star import star_scores

SPEEDS = (0.92, 1.08)  # at which an utterance is read again


@dataclass(frozen=True)
class Reading:
    """What a model reads in one example.

    Attributes:
        text: The text that the model writes.
        confidence: The geometric mean of the probabilities of what it wrote, from 0 to 1; 0 if it wrote nothing.
        words: The best text of known words; None without a word list.
        gap: How much less likely that text is, in nats per time step; None without a word list.
        trust: For a decoder, the weight of each target token (`adapt.unlabelled.star`); empty otherwise.
    """

    text: str
    confidence: float
    words: str | None = None
    gap: float | None = None
    trust: tuple[float, ...] = ()


def read(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    lexicon: Lexicon | None = None,
    test_time: Entropy | None = None,
) -> list[Reading]:
    """Read examples. The texts that they have are not used.

    Args:
        model: The model, which runs in eval mode.
        examples: The examples.
        loader: Batches the examples.
        lexicon: For a CTC model: the words to look for.
        test_time: Adapt the model to each example alone before it is read; None for no.

    Returns:
        A reading per example, in their order.
    """
    found: dict[int, Reading] = {}
    with eval_mode(model), torch.inference_mode():
        for numbers, batch in _batches(model, examples, loader, 1.0):
            found |= dict(zip(numbers, _read_batch(model, batch, lexicon, test_time), strict=True))
    return [found[number] for number in range(len(examples))]


def texts_at(model: Model, examples: Sequence[Example], loader: Loader, speed: float) -> list[str]:
    """Return the model's texts for audio at another speed."""
    found: dict[int, str] = {}
    with eval_mode(model), torch.inference_mode():
        for numbers, batch in _batches(model, examples, loader, speed):
            found |= dict(zip(numbers, model.task.decode(model, batch), strict=True))
    return [found[number] for number in range(len(examples))]


def texts_with_dropout(model: Model, examples: Sequence[Example], loader: Loader, seed: int = 0) -> list[str]:
    """Return the model's texts with dropout on: what it writes with a random part of its units. See `read`."""
    found: dict[int, str] = {}
    with eval_mode(model), torch.inference_mode(), own_random(model):
        torch.manual_seed(seed)
        for module in model.modules():  # transformers drops units by the flag of the module that contains a dropout
            module.training = True
        for norm in running_norms(model):
            norm.training = False
        for numbers, batch in _batches(model, examples, loader, 1.0):
            found |= dict(zip(numbers, model.task.decode(model, batch), strict=True))
        model.eval()
    return [found[number] for number in range(len(examples))]


def similarity(first: str, second: str) -> float:
    """Return how alike two texts are, from 0 to 1: 1 for the same text, and 0 if one of them is empty."""
    return SequenceMatcher(None, first, second, autojunk=False).ratio() if first and second else 0.0


def _batches(
    model: Model, examples: Sequence[Example], loader: Loader, speed: float
) -> Iterator[tuple[list[int], Batch]]:
    device = next(model.parameters()).device
    pairs = [(number, speed) for number in range(len(examples))]
    bounded = within_budget(model, examples, loader)
    batches = bounded.once(examples, model.reader, pairs)
    numbers = [[number for number, _ in batch] for batch in batches.batch_sampler or []]  # pyright: ignore[reportGeneralTypeIssues]
    for own, batch in zip(numbers, track(batches, "reading"), strict=True):
        yield own, batch.to(device)


def _read_batch(model: Model, batch: Batch, lexicon: Lexicon | None, test_time: Entropy | None = None) -> list[Reading]:
    if test_time is not None:
        readings: list[Reading] = []
        for one in single(batch):
            with adapted_to(model, one, test_time):
                readings += _read_batch(model, one, lexicon)
        return readings
    if isinstance(model, CTCModel):
        emissions = model(batch.inputs, batch.lengths)
        rows = zip(emissions.log_probs, emissions.lengths.tolist(), strict=True)
        return [_read_ctc(model, log_probs[:length], lexicon) for log_probs, length in rows]
    assert isinstance(model, DecoderModel)
    texts = seq2seq_decode(model, batch)
    return _read_written(model, batch, texts)


def _read_ctc(model: CTCModel, log_probs: Tensor, lexicon: Lexicon | None) -> Reading:
    best, path = log_probs.max(-1)
    written = best[path != model.blank]
    text = model.decode(path.tolist())
    confidence = float(written.mean().exp()) if len(written) and text else 0.0
    if lexicon is None:
        return Reading(text, confidence)
    words, score = lexicon.decode(log_probs)
    return Reading(text, confidence, words, float(best.mean()) - score)


def _read_written(model: DecoderModel, batch: Batch, texts: Sequence[str]) -> list[Reading]:
    """Return the readings of texts that a decoder wrote, with the probabilities of their tokens."""
    examples = [with_text(example, text) for example, text in zip(batch.examples, texts, strict=True)]
    targets = references(model, examples).to(batch.inputs.device)
    logits, attention = decoder_attention(model, batch.inputs, batch.lengths, targets)
    log_probs = logits.float().log_softmax(-1).gather(-1, targets.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    special = torch.tensor(sorted(model.special_units), device=targets.device)
    readings = []
    for row, text in enumerate(texts):
        valid = targets[row] != IGNORED
        own = valid & ~torch.isin(targets[row], special)
        confidence = float(log_probs[row][own].mean().exp()) if text and own.any() else 0.0
        maps = None if attention is None else attention[row]
        trust = star_scores(log_probs[row].exp(), maps, own)[valid]
        readings.append(Reading(text, confidence, trust=tuple(trust.tolist())))
    return readings
