"""The options of an adaptation without labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from adapt.checks import check_count, check_flag, check_number, is_number
from adapt.errors import InputError
from adapt.models.loaded import Loaded
from adapt.unlabelled.entropy import Entropy
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
        replay: The share of source examples in each epoch, if there are any.
        blend: How far to move from the base: from 0 to 1, "auto" or "off" (1).
        forget: By how many percentage points the error rate on held-out source data may rise (or BLEU fall).
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
    replay: float = 0.5
    blend: Share = "auto"
    forget: float = 0.2
    held_out: int = 60
    reverse: Loaded | None = None
    target_texts: Sequence[str] = ()
    filters: Filters = field(init=False)

    def __post_init__(self) -> None:
        for name in ("norms", "entropy", "test_time"):
            check_flag(name, getattr(self, name))
        check_count("rounds", self.rounds)
        check_count("held_out", self.held_out, 2)
        check_number("forget", self.forget, minimum=0.0)
        if not (is_number(self.replay) and 0 <= self.replay < 1):
            raise InputError(f"replay must be the share of source examples in an epoch, below 1; got {self.replay!r}.")
        if self.blend not in ("auto", "off") and not (is_number(self.blend) and 0 < self.blend <= 1):
            raise InputError(f"blend must be auto, off, or a factor above 0 and up to 1; got {self.blend!r}.")
        if self.target_texts and self.reverse is None:
            raise InputError("target_texts needs reverse, a model that translates them back.")
        object.__setattr__(self, "filters", Filters(self.keep, self.agreement, self.rate))


LABELLING = Entropy()  # of a CTC model, for each recording that it labels
OVER_ALL = Entropy(steps=1, learning_rate=3e-4)  # once over all recordings
