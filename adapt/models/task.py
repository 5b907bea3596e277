"""What a model is for: how it learns, how it answers, and how an answer is judged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from adapt.data.loader import Batch
from adapt.data.text import normalise
from adapt.metrics import (
    CER,
    WER,
    Metric,
    TextScores,
    error_rates,
    translation_metrics,
    translation_scores,
    translation_words,
)
from adapt.models.ctc import ctc_decode, ctc_loss
from adapt.models.seq2seq import seq2seq_decode, seq2seq_loss


@dataclass(frozen=True)
class Task:
    """Plain functions, and words for reports.

    `loss(model, batch)` is a scalar to minimise, `decode(model, batch)` the answers as texts in the batch's order, and
    `evaluate(references, hypotheses)` their quality in `metrics`, the first of which counts most. `normalise` makes two texts
    comparable word by word, `words` splits a text into those that are counted; a right answer has the reference's
    `in_order`, or may have another order. `noun` is what one example is called.
    """

    loss: Callable[[nn.Module, Batch], Tensor]
    decode: Callable[[nn.Module, Batch], list[str]]
    evaluate: Callable[[Sequence[str], Sequence[str]], TextScores]
    metrics: tuple[Metric, ...]
    normalise: Callable[[str], str]
    words: Callable[[str], list[str]]
    in_order: bool
    example_name: str


def _normalised_words(text: str) -> list[str]:
    return normalise(text).split()


recognition = Task(ctc_loss, ctc_decode, error_rates, (WER, CER), normalise, _normalised_words, True, "utterance")
dictation = Task(seq2seq_loss, seq2seq_decode, error_rates, (WER, CER), normalise, _normalised_words, True, "utterance")


def translation(tokenize: str = "13a") -> Task:
    """To translate; `tokenize` is how BLEU finds words. Raises ValueError where sacrebleu does not know it."""
    metrics = translation_metrics(tokenize)
    evaluate, words = partial(translation_scores, tokenize=tokenize), partial(translation_words, tokenize=tokenize)
    tidied = lambda text: " ".join(text.split())  # noqa: E731
    return Task(seq2seq_loss, seq2seq_decode, evaluate, metrics, tidied, words, False, "sentence")
