"""The options of an adaptation without labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from adapt.blending.choice import Budget
from adapt.checks import check_count, check_flag, is_number
from adapt.errors import InputError
from adapt.files import file_problem, user_path
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded
from adapt.unlabelled.labels import Filters

Share = float | Literal["auto", "off"]


@dataclass(frozen=True)
class WithoutLabels:
    """How a model is adapted without labels. Every step is kept only if the held-out agreement rises.

    Args:
        norms: Whether to replace the running statistics of batch norms by those of the target (AdaBN: Li et al. 2017).
        entropy: Whether to minimise the entropy over the target, once.
        rounds: The largest number of rounds of self-training; 0 for none.
        test_time: Whether a CTC model adapts to each recording before its first label is read.
        keep: See `adapt.unlabelled.labels.Filters`.
        agreement: See `Filters`.
        rate: See `Filters`.
        words: Texts of the target, whose words a CTC model should write; () for those of the source data, if any.
        blend: How far to move from the base: from 0 to 1, "auto" or "off" (1).
        forget: How much worse held-out source data may be read: in points, or "10%" of the base's errors. None: 0.2
            points and the standard error, because one word of a few source examples would otherwise decide.
        held_out: The number of training examples that are held out if there is no validation data.
        reverse: For a translation model: a model of the other direction, which checks translations.
        target_texts: Sentences in the target language, which `reverse` translates back to train on.

    Raises:
        InputError: a value is out of range, or `target_texts` are given without `reverse`.
    """

    norms: bool = True
    entropy: bool = True
    rounds: int = 3
    test_time: bool = True
    keep: float = 0.8
    agreement: float = 0.6
    rate: float = 3.0
    words: Sequence[str] = ()
    blend: Share = "auto"
    forget: float | str | None = None
    held_out: int = 60
    reverse: Loaded | None = None
    target_texts: Sequence[str] = ()
    filters: Filters = field(init=False)
    budget: Budget | None = field(init=False)

    def __post_init__(self) -> None:
        for name in ("norms", "entropy", "test_time"):
            check_flag(name, getattr(self, name))
        check_count("rounds", self.rounds)
        if self.blend is False:  # YAML reads a bare off as False
            object.__setattr__(self, "blend", "off")
        check_count("held_out", self.held_out, 2)
        if self.blend not in ("auto", "off") and not (is_number(self.blend) and 0 < self.blend <= 1):
            raise InputError(f"blend must be auto, off, or a factor above 0 and up to 1; got {self.blend!r}.")
        if self.target_texts and self.reverse is None:
            raise InputError("target_texts needs reverse, a model that translates them back.")
        object.__setattr__(self, "budget", Budget.of(self.forget))
        object.__setattr__(self, "filters", Filters(self.keep, self.agreement, self.rate))


def without_labels(
    norms: bool = True,
    entropy: bool = True,
    rounds: int = 3,
    test_time: bool = True,
    keep: float = 0.8,
    agreement: float = 0.6,
    rate: float = 3.0,
    words: str | None = None,
    held_out: int = 60,
    reverse: str | None = None,
    target_texts: str | None = None,
) -> WithoutLabels:
    """Return the options, with texts read from files and the model of the other direction loaded.

    Args:
        norms: As in `WithoutLabels`, like those that are not listed here.
        words: A text file of the target's language or domain; its words are those that a CTC model should write.
        reverse: A reference to a translation model of the other direction.
        target_texts: A text file with one sentence of the target language per line.

    Raises:
        InputError: as `WithoutLabels`, or a file or the model cannot be read.
    """
    return WithoutLabels(
        norms, entropy, rounds, test_time, keep, agreement, rate, _lines("words", words), held_out=held_out,
        reverse=None if reverse is None else load_model(reverse), target_texts=_lines("target_texts", target_texts),
    )  # fmt: skip


def _lines(name: str, place: str | None) -> tuple[str, ...]:
    if place is None:
        return ()
    path = user_path(place)
    problem = file_problem(path, "text file")
    if problem is not None:
        raise InputError(f"{name}: {problem}. Give a text file with one text per line.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: '{path}' is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise InputError(f"{name}: '{path}' is empty.")
    return found
