"""How a recogniser and the references write: which differences are errors, and which are style only.

with normalising([model], examples):
    texts = decode_examples(model, model.task, examples, loader)
    print(model.task.score(examples, texts), writing(model.task, examples, texts).share)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from adapt.data.example import Example, language_of
from adapt.data.kinds import with_text
from adapt.data.manifest import Utterance
from adapt.data.normalisers import Normalise, Normaliser, check_normalise, has_style
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.metrics import WER
from adapt.models.model import Model, SpeechDecoderModel
from adapt.models.task import Task

_STYLE = ". , ? ! 0 1 2 3 4 5 6 7 8 9"
CLEAR = 0.05  # the share of word errors that are style only from which it is worth a word before training


@dataclass(frozen=True)
class Writing:
    """The word errors of some answers as they are written, and how many of them are style only.

    Upper and lower case and Unicode's spelling of a letter never count.

    Attributes:
        rules: The rules of the normaliser: "basic", "english", or both, if the examples have several languages.
        words: The number of words of the references as they are written.
        errors: The number of word errors of the texts as they are written.
        without_punctuation: That number after the basic normaliser, which removes punctuation and symbols.
        normalised: That number after the normaliser: numbers, contractions and spellings do not count either.
        rates: The error rates of the texts as they are written, by the key of the metric.
    """

    rules: tuple[str, ...]
    words: int
    errors: int
    without_punctuation: int
    normalised: int
    rates: dict[str, float]

    @property
    def share(self) -> float:
        """The share of the word errors as written that are style only."""
        return max(0, self.errors - self.normalised) / self.errors if self.errors else 0.0

    @property
    def punctuation_share(self) -> float:
        """The share of the word errors as written that punctuation alone makes up."""
        return max(0, self.errors - self.without_punctuation) / self.errors if self.errors else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`: rates and counts as written, and the shares that are style only."""
        shares = {"style_share": self.share, "punctuation_share": self.punctuation_share}
        return {**self.rates, "words": self.words, "errors": self.errors, **shares, "normaliser": list(self.rules)}


def writing(task: Task, examples: Sequence[Example], texts: Sequence[str]) -> Writing | None:
    """Return which errors of some answers are style only; None if the task compares texts as they are written."""
    if task.normaliser is None:
        return None
    raw = replace(task, normaliser=None).score(examples, texts)
    basic = replace(task, normaliser=replace(task.normaliser, name="basic")).score(examples, texts)
    own, place = task.score(examples, texts), [metric.key for metric in task.metrics].index(WER.key)
    errors, words = (int(number) for number in raw.statistics[place].sum(0))
    rules = task.normaliser.rules([language_of(example) for example in examples])
    unpunctuated, normalised = (int(scores.statistics[place][:, 0].sum()) for scores in (basic, own))
    return Writing(rules, words, errors, unpunctuated, normalised, raw.values())


def choose_normaliser(model: Model, examples: Sequence[Example], normalise: Normalise = "auto") -> Normaliser | None:
    """Return how the texts of a model are normalised before they are compared with those of examples.

    The choice depends on the model's vocabulary and on the references, and not on answers, so that it is the same
    before and after training.

    Args:
        model: The model.
        examples: The examples with their references.
        normalise: "auto" normalises if the model can write punctuation or digits, or references have them: English
            texts by the English rules, all others by the basic ones. "none" compares texts as they are written;
            "basic" and "english" always use their rules.

    Raises:
        InputError: There is no such normaliser, or the model translates texts, which BLEU compares as they are written.
    """
    check_normalise(normalise)
    if not model.task.in_order:
        if normalise in ("basic", "english"):
            raise InputError(
                f"normalise={normalise} is for recognisers. Translations are compared as they are written: case and "
                "punctuation belong to them. Leave it out."
            )
        return None
    if normalise == "none" or not examples:
        return None
    language, spellings = None, None
    if isinstance(model, SpeechDecoderModel):
        language, spellings = model.own_language, model.spellings
        if normalise == "auto" and model.generation_options.task == "translate":  # into English, from any language
            normalise = "english"
    style = normalise != "auto" or _can_write_style(model, examples[0])
    if not style and not any(has_style(example.text) for example in examples):
        return None
    return Normaliser(normalise, language, spellings)


def same_words(model: Model, example: Example, answer: str, normalise: Normalise = "auto") -> bool:
    """Return whether an answer differs from an example's text in style only. The arguments are as above."""
    normaliser = choose_normaliser(model, [example], normalise)
    if normaliser is None:
        return False
    language = language_of(example)
    return normaliser(answer, language) == normaliser(example.text, language)


def _can_write_style(model: Model, example: Example) -> bool:
    if not isinstance(example, (Utterance, Recording)):  # refused elsewhere
        return True
    try:
        return len(model.unwritable(with_text(example, _STYLE))) < len(_STYLE.split())
    except InputError:  # an example in a language that the model lacks, which is refused elsewhere
        return True


@contextmanager
def normalising(models: Sequence[Model], examples: Sequence[Example], normalise: Normalise = "auto") -> Iterator[None]:
    """Within this context, models of one kind are scored by the same normaliser: that of the first that needs one.

    Args:
        models: The models.
        examples: The examples that they are scored on.
        normalise: As in `choose_normaliser`.
    """
    found = next((one for model in models if (one := choose_normaliser(model, examples, normalise))), None)
    own = [(model, "task" in vars(model), model.task) for model in models]
    for model in models:
        model.task = replace(model.task, normaliser=found)
    try:
        yield
    finally:
        for model, instance, task in own:
            if instance:
                model.task = task
            else:
                vars(model).pop("task", None)
