"""Groupings: the phoneme, letter, token, accent, ... that each step of a site belongs to.

A `Grouping` has a key ("phoneme") and the names of its groups, and labels each step of an example with the index of
its group. Sites have different steps (`TimeBase`): frames of audio, tokens that an encoder reads, or tokens that a
decoder writes. On a time base that a grouping knows nothing about, no step is in any group.
"""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from adapt.introspect.profiles.profiles import ALL
from adapt.introspect.profiles.trace import ForwardTrace, TimeBase

NONE = -1  # the label of a step that is in no group


class Grouping(ABC):
    """One way to group steps. `names` are the names of the groups, without the key."""

    key: str
    names: Sequence[str]

    @abstractmethod
    def label(self, trace: ForwardTrace, time_base: TimeBase, row: int, steps: int) -> Tensor | None:
        """Label the valid steps of an example.

        Args:
            trace: The forward pass over the batch of the example.
            time_base: The time base of the site.
            row: The row of the example in the batch.
            steps: The number of its valid steps at the site.

        Returns:
            The index of the group of each step, `(steps,)`; NONE for a step in no group. None if no step is in any.
        """


@dataclass(frozen=True)
class Everything(Grouping):
    """All steps, in one group."""

    key: str = ALL
    names: Sequence[str] = (ALL,)

    def label(self, trace: ForwardTrace, time_base: TimeBase, row: int, steps: int) -> Tensor | None:
        return torch.zeros(steps, dtype=torch.long)


@dataclass(frozen=True)
class ByExample(Grouping):
    """All steps of an example are in the group of the example: its accent, speaker, domain or set.

    `group_of` has the index of each example's group, in the order of all examples.
    """

    key: str
    names: Sequence[str]
    group_of: Sequence[int]

    def label(self, trace: ForwardTrace, time_base: TimeBase, row: int, steps: int) -> Tensor | None:
        return torch.full((steps,), self.group_of[trace.numbers[row]])


@dataclass(frozen=True)
class ByPhoneme(Grouping):
    """The phoneme spoken at the middle of a step, by the times in the manifest. Pauses are in no group."""

    names: Sequence[str]
    key: str = "phoneme"

    def label(self, trace: ForwardTrace, time_base: TimeBase, row: int, steps: int) -> Tensor | None:
        phonemes = sorted(getattr(trace.batch.examples[row], "phonemes", ()), key=lambda phoneme: phoneme.start)
        if time_base.kind != "seconds" or not phonemes:
            return None
        edges, labels = [], [NONE]  # each edge starts an interval with the label after it
        for phoneme, following in zip(phonemes, [*phonemes[1:], None], strict=True):
            edges.append(phoneme.start)
            labels.append(self._numbers.get(phoneme.symbol, NONE))
            if following is None or phoneme.end < following.start:
                edges.append(phoneme.end)
                labels.append(NONE)
        times = trace.times(time_base, row, steps)
        return torch.tensor(labels)[torch.bucketize(times, torch.tensor(edges, dtype=times.dtype), right=True)]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


@dataclass(frozen=True)
class ByUnit(Grouping):
    """The output unit (letter or token) at a step.

    `letter` is the letter that the model writes at a frame of CTC, `aligned_letter` the letter of the reference there
    by forced alignment. `token` is the token of the reference, `predicted_token` that of the model, in a decoder. In
    the encoder of a translation model, `token` is the source token. The blank of CTC is in no group.

    `table` `(units,)` has the group of each output unit, or NONE; `source_table` the same for source tokens.
    """

    key: str
    names: Sequence[str]
    table: Tensor
    source_table: Tensor | None = None

    def label(self, trace: ForwardTrace, time_base: TimeBase, row: int, steps: int) -> Tensor | None:
        if time_base.kind == "source":
            if self.source_table is None:
                return None
            return self.source_table[trace.batch.inputs[row, :steps].cpu()]
        if time_base.kind != trace.output.kind:
            return None
        if self.key in ("letter", "predicted_token"):
            units: Tensor | None = trace.path[row, : trace.lengths[row]]
        elif self.key == "aligned_letter":
            units = trace.aligned[row]
        else:
            units = torch.tensor(trace.texts[row])
        return None if units is None else trace.on_time_base(time_base, steps, self.table[units])


@dataclass(frozen=True)
class ByCorrectness(Grouping):
    """Whether the output at a step is correct: the token of the reference, or the letter of its forced alignment.

    Frames at which both the model and the alignment have the blank are in no group.
    """

    key: str = "correct"
    names: Sequence[str] = ("no", "yes")

    def label(self, trace: ForwardTrace, time_base: TimeBase, row: int, steps: int) -> Tensor | None:
        if time_base.kind != trace.output.kind:
            return None
        path = trace.path[row, : trace.lengths[row]]
        if trace.log_probs is None:
            return (path == torch.tensor(trace.texts[row])).long()
        expected = trace.aligned[row]
        if expected is None:
            return None
        silent = (path == trace.blank) & (expected == trace.blank)
        return trace.on_time_base(time_base, steps, (path == expected).long().masked_fill(silent, NONE))


TOKEN_CLASSES = ("word start", "word continued", "digits", "punctuation", "special")
_WORD_MARKS = "\u2581\u0120"  # mark the start of a word in SentencePiece and in byte-level vocabularies


def starts_word(token: str) -> bool:
    """Return whether a token starts a word, as nearly all vocabularies mark it; it may also be a number or a sign."""
    return token.startswith(tuple(_WORD_MARKS))


def token_class(token: str, special: bool) -> str:
    """Return which of `TOKEN_CLASSES` a token belongs to. Nearly all vocabularies mark tokens that start a word."""
    text = token.strip(_WORD_MARKS)
    if special or not token:
        return "special"
    if text and all(character.isdigit() for character in text):
        return "digits"
    if text and all(unicodedata.category(character)[0] in "PS" for character in text):
        return "punctuation"
    return "word start" if token[0] in _WORD_MARKS else "word continued"
