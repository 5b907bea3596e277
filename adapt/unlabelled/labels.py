"""Pseudo-labels: the texts that a model reads in unlabelled examples, without those that are probably wrong."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from adapt.checks import check_number, check_share
from adapt.data.example import Example
from adapt.data.kinds import with_text
from adapt.data.loader import Loader
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.models.model import CTCModel, Model
from adapt.unlabelled.back_translation import translate_back
from adapt.unlabelled.entropy import Entropy
from adapt.unlabelled.lexicon import Lexicon, make_lexicon, separates_words
from adapt.unlabelled.reading import SPEEDS, Reading, read, similarity, texts_at, texts_with_dropout

OWN_WEIGHT, GIVEN_WEIGHT = 1.0, 0.5  # of a word's frequency: in the model's own texts, in texts that people wrote
_REPEATED = re.compile(r"(?:^|\s)(\S+(?:\s+\S+){0,3}?)(?:\s+\1){3,}(?:\s|$)")  # one to four words, four times or more
WEIGHTS = "token_weights"  # the key of an example's extra values that holds the trust in its tokens


@dataclass(frozen=True)
class Filters:
    """Which pseudo-labels are kept.

    Args:
        keep: The share of the labels to keep, the most trusted ones, after the other filters.
        agreement: The least agreement of a label with what is read at other speeds, or with dropout.
        rate: A text with so many times more or fewer characters per second (or per source token) than the median is
            left out.

    Raises:
        InputError: a value is out of range.
    """

    keep: float = 0.8
    agreement: float = 0.6
    rate: float = 3.0

    def __post_init__(self) -> None:
        check_share("keep", self.keep, one=True)
        check_share("agreement", self.agreement, zero=True, one=True)
        check_number("rate", self.rate, minimum=1.0)


@dataclass(frozen=True)
class Labelled:
    """Pseudo-labelled examples, and how many were left out for which reason."""

    examples: list[Example]
    left_out: dict[str, int]


def label(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    filters: Filters,
    texts: Sequence[str] = (),
    test_time: Entropy | None = None,
    reverse: Model | None = None,
) -> Labelled:
    """Label examples with what a model reads in them, and keep what can be trusted.

    A CTC model's text is the best one of known words: those of `texts`, else those that it writes itself, weighted by
    how often (`adapt.unlabelled.lexicon`). Its trust is how little likelier its letters are without that restriction.
    A decoder's trust is its confidence, and each token counts by STAR's score.

    Args:
        model: The model.
        examples: The examples; texts that they have are not used.
        loader: Batches the examples.
        filters: What is kept.
        texts: Texts whose words a CTC model should write.
        test_time: Adapt the model to each example before its label is read (`adapt.unlabelled.entropy`); None for no.
        reverse: A model that translates back (`agreement_of`).

    Returns:
        The examples with their labels, in their order.
    """
    lexicon = lexicon_for(model, texts)
    if lexicon is None:
        lexicon = own_lexicon(model, examples, loader)
    readings = read(model, examples, loader, lexicon, test_time)
    agreements = agreement_of(model, examples, [reading.text for reading in readings], loader, reverse)
    return choose(model, examples, readings, agreements, filters)


def lexicon_for(model: Model, texts: Sequence[str]) -> Lexicon | None:
    """Return the words of texts for a CTC model that separates words; None for other models or without texts."""
    return make_lexicon(_ctc(model), texts, GIVEN_WEIGHT) if texts and separates_words(model) else None


def own_lexicon(model: Model, examples: Sequence[Example], loader: Loader) -> Lexicon | None:
    """Return the words that a CTC model writes in examples, by their frequency; None if it separates or writes none."""
    if not separates_words(model):
        return None
    texts = [reading.text for reading in read(model, examples, loader)]
    return make_lexicon(_ctc(model), texts, OWN_WEIGHT) if any(map(str.strip, texts)) else None


def agreement_of(
    model: Model, examples: Sequence[Example], texts: Sequence[str], loader: Loader, reverse: Model | None = None
) -> list[float]:
    """Return how much to believe each text that a model wrote, from 0 to 1.

    Args:
        model: The model. If it reads audio: how alike the text is to what it writes at other speeds. Otherwise: to what
            it writes with dropout, unless there is a `reverse`.
        examples: The examples.
        texts: What the model wrote for each.
        loader: Batches the examples.
        reverse: A model that translates back: how alike its translation of the text is to the source sentence.
    """
    if reverse is not None:
        sources = [example.source if isinstance(example, Pair) else "" for example in examples]
        back = translate_back(reverse, texts, loader)
        return [
            similarity(reverse.task.normalise(one), reverse.task.normalise(two))
            for one, two in zip(sources, back, strict=True)
        ]
    if model.reads_audio:
        others = [texts_at(model, examples, loader, speed) for speed in SPEEDS]
    else:
        others = [texts_with_dropout(model, examples, loader, seed) for seed in range(2)]
    return [sum(similarity(text, other[number]) for other in others) / len(others) for number, text in enumerate(texts)]


def choose(
    model: Model,
    examples: Sequence[Example],
    readings: Sequence[Reading],
    agreements: Sequence[float],
    filters: Filters,
) -> Labelled:
    """Keep the examples whose readings pass the filters. Arguments are as in `label`, one reading per example."""
    rates = [_rate(model, example, reading.text) for example, reading in zip(examples, readings, strict=True)]
    usual = median([rate for rate in rates if rate] or [1.0])
    left_out: dict[str, int] = {}
    candidates: list[int] = []
    for number, reading in enumerate(readings):
        reason = _reason(reading, agreements[number], rates[number] / usual, filters)
        if reason is None:
            candidates.append(number)
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
    most = round(filters.keep * len(candidates))
    trusted = sorted(candidates, key=lambda number: (-_trust(readings[number]), number))[:most]
    if len(candidates) > most:
        left_out["least trusted"] = len(candidates) - most
    return Labelled([_labelled(examples[number], readings[number]) for number in sorted(trusted)], left_out)


def _reason(reading: Reading, agreement: float, rate: float, filters: Filters) -> str | None:
    text = reading.text if reading.words is None else reading.words
    if not text.strip():
        return "empty"
    if _REPEATED.search(reading.text):
        return "repeats itself"
    if not 1 / filters.rate <= rate <= filters.rate:
        return "too long or too short"
    return "too little agreement" if agreement < filters.agreement else None


def _trust(reading: Reading) -> float:
    return reading.confidence if reading.gap is None else -reading.gap


def _labelled(example: Example, reading: Reading) -> Example:
    labelled = with_text(example, reading.text if reading.words is None else reading.words)
    if reading.trust and isinstance(labelled, (Utterance, Recording, Pair)):
        return replace(labelled, extra={**labelled.extra, WEIGHTS: reading.trust})
    return labelled


def _rate(model: Model, example: Example, text: str) -> float:
    return len(text) / max(model.reader.length(example), 1e-3)


def _ctc(model: Model) -> CTCModel:
    if not isinstance(model, CTCModel):
        raise InputError("words: only a CTC model can be given a word list.")
    return model
