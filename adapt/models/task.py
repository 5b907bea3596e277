"""What a model is trained for: its loss, its decoding and its metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from adapt.data.example import Example, language_of
from adapt.data.loader import Batch
from adapt.data.normalisers import Normaliser, split_characters, without_spaces
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
from adapt.models.ctc import ctc_decode, ctc_loss, ctc_terms, ctc_validate
from adapt.models.seq2seq import seq2seq_decode, seq2seq_loss, seq2seq_terms


@dataclass(frozen=True)
class Task:
    """The functions with which a kind of model is trained and evaluated.

    Args:
        loss: `loss(model, batch)` returns a scalar to minimise.
        decode: `decode(model, batch)` returns the hypotheses in the batch's order.
        evaluate: `evaluate(references, hypotheses)` returns their scores in `metrics`.
        metrics: The metrics, the main one first.
        normalise: Normalises a text before it is compared with another.
        words: Splits a text into the words that are counted.
        in_order: Whether a correct hypothesis has its words in the reference's order.
        example_name: What reports call one example, such as "utterance".
        terms: `terms(model, example)` returns how many terms an example has in the mean that `loss` returns.
        validate: `validate(model, batch)` returns the loss and the hypotheses from one forward pass; None if decoding
            takes passes of its own.
        normaliser: Removes style from the texts that `score` and `comparable` compare; None compares them as written.
    """

    loss: Callable[[Any, Batch], Tensor]
    decode: Callable[[Any, Batch], list[str]]
    evaluate: Callable[[Sequence[str], Sequence[str]], TextScores]
    metrics: tuple[Metric, ...]
    normalise: Callable[[str], str]
    words: Callable[[str], list[str]]
    in_order: bool
    example_name: str
    terms: Callable[[Any, Example], int]
    validate: Callable[[Any, Batch], tuple[Tensor, list[str]]] | None = None
    normaliser: Normaliser | None = None

    def score(self, examples: Sequence[Example], hypotheses: Sequence[str]) -> TextScores:
        """Return the scores of hypotheses against the texts of examples, each compared in the example's language."""
        references = self.comparable(examples, [example.text for example in examples])
        return self.evaluate(references, self.comparable(examples, hypotheses))

    def comparable(self, examples: Sequence[Example], texts: Sequence[str]) -> list[str]:
        """Return a text for each example as it is compared: without style, if there is a normaliser.

        Otherwise it is in lower case if the example has a language whose rule may be a special one. Texts of a
        translation are returned as they are.
        """
        languages = [language_of(example) if self.in_order else None for example in examples]
        if self.normaliser is not None:
            return [self.normaliser(text, language) for text, language in zip(texts, languages, strict=True)]
        return [
            text if language is None else normalise(text, language)
            for language, text in zip(languages, texts, strict=True)
        ]

    def compared_words(self, examples: Sequence[Example], texts: Sequence[str]) -> list[str]:
        """Return `comparable` texts with single spaces between what counts as a word."""
        separate = split_characters if self.in_order else str
        return [separate(self.normalise(text)) for text in self.comparable(examples, texts)]


def _normalised_words(text: str, language: str | None = None) -> list[str]:
    return split_characters(normalise(text, language)).split()


def _single_spaces(text: str) -> str:
    return " ".join(text.split())


_SPEECH = (error_rates, (WER, CER), normalise, _normalised_words, True, "utterance")
recognition = Task(ctc_loss, ctc_decode, *_SPEECH, ctc_terms, ctc_validate)
dictation = Task(seq2seq_loss, seq2seq_decode, *_SPEECH, seq2seq_terms)


def in_language(task: Task, language: str | None) -> Task:
    """Return a recognition or dictation task that compares texts by the rules of a language; None for no language.

    The main metric of languages without spaces between words is the character error rate.
    """
    return replace(
        task,
        metrics=(CER, WER) if without_spaces(language) else (WER, CER),
        evaluate=partial(error_rates, language=language),
        normalise=partial(normalise, language=language),
        words=partial(_normalised_words, language=language),
    )


def translation(tokenize: str = "13a") -> Task:
    """Return the translation task; `tokenize` is sacrebleu's tokenizer. Raises ValueError if sacrebleu lacks it."""
    metrics = translation_metrics(tokenize)
    evaluate, words = partial(translation_scores, tokenize=tokenize), partial(translation_words, tokenize=tokenize)
    return Task(
        seq2seq_loss, seq2seq_decode, evaluate, metrics, _single_spaces, words, False, "sentence", seq2seq_terms
    )
