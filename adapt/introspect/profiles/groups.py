"""Groups: which phoneme, letter, token, accent, ... each step of a site belongs to.

A `Grouping` has a key ("phoneme"), the names of its groups, and says which of them each step of an example is in. Steps
of different sites last differently long, and count different things (`Clock`): frames of audio, tokens that an encoder
reads, or tokens that a decoder writes. A grouping that knows nothing of one clock leaves its steps in no group.
"""

import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Batch
from adapt.errors import InputError
from adapt.introspect.profiles.profiles import ALL
from adapt.models.ctc import ctc_steps
from adapt.models.model import DecoderModel, Model
from interventions.sites import Site

NONE = -1  # in no group
Kind = Literal["seconds", "source", "target"]


@dataclass(frozen=True)
class Clock:
    """What a site's steps count: seconds of audio (each `length` long), source tokens, or target tokens."""

    kind: Kind
    length: float = 1.0


def clock_of(model: Model, site: Site) -> Clock:
    """The clock of a site, as the model says it."""
    if site.step.unit == "s":
        return Clock("seconds", site.step.length)
    told = model.valid_lengths(site, torch.tensor([1]), torch.tensor([2]))  # the number of steps tells whose they are
    return Clock("target" if int(told) == 2 else "source")


@dataclass
class ForwardTrace:
    """What a forward pass over a batch has shown, for groupings to look at.

    `numbers` are the examples' among all that are profiled. `path` `(batch, steps)` is the unit with the highest score
    at each output step, `lengths` `(batch,)` how many output steps are each example's own. `log_probs` are a CTC
    model's, `(batch, steps, units)`; None where a decoder writes.
    """

    model: Model
    batch: Batch
    numbers: Sequence[int]
    path: Tensor
    lengths: Sequence[int]
    log_probs: Tensor | None = None

    @cached_property
    def out(self) -> Clock:
        """The clock of the output."""
        return clock_of(self.model, self.model.sites[-1])

    @cached_property
    def texts(self) -> list[list[int] | None]:
        """The output units of each example's text; None where the model cannot write it."""
        found = []
        for example in self.batch.examples:
            try:
                found.append(self.model.encode(example.text))
            except InputError:
                found.append(None)
        return found

    @cached_property
    def aligned(self) -> list[Tensor | None]:
        """The text of each example along its output steps, `(steps,)`, by CTC forced alignment; None where it has none.

        The likeliest path that spells the text (Graves et al. 2006), a unit or the blank at each step.
        """
        from torchaudio.functional import forced_align

        found: list[Tensor | None] = []
        for row, units in enumerate(self.texts):
            if not units or self.log_probs is None or ctc_steps(units) > self.lengths[row]:
                found.append(None)
                continue
            own = self.log_probs[row : row + 1, : self.lengths[row]].detach().float().cpu().contiguous()
            target = torch.tensor([units], dtype=torch.int32)
            found.append(forced_align(own, target, blank=self.model.blank)[0][0].long())
        return found

    def along(self, clock: Clock, row: int, steps: int, values: Tensor) -> Tensor:
        """Values of an example's output steps `(output steps,)` as a site's `(steps,)` have them.

        An example's steps lie around its middle at each site, whatever the site's windows lose or pad at its ends: a
        step of the site has the output step whose middle is nearest, to within half a step.
        """
        if clock.kind != "seconds":
            return values
        middle = (torch.arange(steps) - (steps - 1) / 2) * (clock.length / self.out.length)
        place = (middle + (len(values) - 1) / 2).round().long().clamp(0, len(values) - 1)
        return values[place]

    def times(self, clock: Clock, row: int, steps: int) -> Tensor:
        """The middle of each step, `(steps,)`, in seconds from the utterance's start."""
        duration = int(self.batch.lengths[row]) / self.model.sample_rate
        return duration / 2 + (torch.arange(steps) - (steps - 1) / 2) * clock.length


class Grouping(ABC):
    """One way to put steps into groups; `names` are the groups', without the key."""

    key: str
    names: Sequence[str]

    @abstractmethod
    def label(self, seen: ForwardTrace, clock: Clock, row: int, steps: int) -> Tensor | None:
        """The number of the group of each of an example's own steps, `(steps,)`, or NONE; None: no step is in any."""


@dataclass(frozen=True)
class Everything(Grouping):
    """All steps, in one group."""

    key: str = ALL
    names: Sequence[str] = (ALL,)

    def label(self, seen: ForwardTrace, clock: Clock, row: int, steps: int) -> Tensor | None:
        return torch.zeros(steps, dtype=torch.long)


@dataclass(frozen=True)
class ByExample(Grouping):
    """All steps of an example are in its group: accent, speaker, domain, the set that it is of. `of` has a number for
    each example, in the order of all.
    """

    key: str
    names: Sequence[str]
    of: Sequence[int]

    def label(self, seen: ForwardTrace, clock: Clock, row: int, steps: int) -> Tensor | None:
        return torch.full((steps,), self.of[seen.numbers[row]])


@dataclass(frozen=True)
class ByPhoneme(Grouping):
    """The phoneme that is spoken in the middle of a step, by the times in the manifest; pauses are in no group."""

    names: Sequence[str]
    key: str = "phoneme"

    def label(self, seen: ForwardTrace, clock: Clock, row: int, steps: int) -> Tensor | None:
        phonemes = sorted(seen.batch.examples[row].phonemes, key=lambda phoneme: phoneme.start)
        if clock.kind != "seconds" or not phonemes:
            return None
        edges, names = [], [NONE]  # from each edge on there is another name
        for phoneme, behind in zip(phonemes, [*phonemes[1:], None], strict=True):
            edges.append(phoneme.start)
            names.append(self._numbers.get(phoneme.symbol, NONE))
            if behind is None or phoneme.end < behind.start:
                edges.append(phoneme.end)
                names.append(NONE)
        times = seen.times(clock, row, steps)
        return torch.tensor(names)[torch.bucketize(times, torch.tensor(edges, dtype=times.dtype), right=True)]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


@dataclass(frozen=True)
class ByUnit(Grouping):
    """The output unit (letter or token) that is written at a step.

    `letter` is what the model writes by itself, at a frame of CTC; `aligned_letter` what the text has there by forced
    alignment; `token` is the text's token and `predicted_token` the model's, where a decoder writes. Steps of the
    encoder of a translation model have the source's `token`. CTC's blank is in no group.

    `table` `(units,)` has the group of each output unit or NONE, `read` the same of the source's tokens.
    """

    key: str
    names: Sequence[str]
    table: Tensor
    read: Tensor | None = None

    def label(self, seen: ForwardTrace, clock: Clock, row: int, steps: int) -> Tensor | None:
        if clock.kind == "source":
            return None if self.read is None else self.read[seen.batch.inputs[row, :steps].cpu()]
        if clock.kind != seen.out.kind:
            return None
        if self.key in ("letter", "predicted_token"):
            units: Tensor | None = seen.path[row, : seen.lengths[row]]
        elif self.key == "aligned_letter":
            units = seen.aligned[row]
        else:
            units = torch.tensor(seen.texts[row])
        return None if units is None else seen.along(clock, row, steps, self.table[units])


@dataclass(frozen=True)
class ByCorrectness(Grouping):
    """Whether the model writes what it should at a step: its token against the text's, or its letter against the one
    that forced alignment puts there. Frames at which neither writes anything are in no group.
    """

    key: str = "correct"
    names: Sequence[str] = ("no", "yes")

    def label(self, seen: ForwardTrace, clock: Clock, row: int, steps: int) -> Tensor | None:
        if clock.kind != seen.out.kind:
            return None
        path = seen.path[row, : seen.lengths[row]]
        if seen.log_probs is None:
            return (path == torch.tensor(seen.texts[row])).long()
        wanted = seen.aligned[row]
        if wanted is None:
            return None
        silent = (path == seen.model.blank) & (wanted == seen.model.blank)
        return seen.along(clock, row, steps, (path == wanted).long().masked_fill(silent, NONE))


TOKEN_CLASSES = ("word start", "word continued", "digits", "punctuation", "special")
_MARKS = "\u2581\u0120"  # how SentencePiece and byte-level vocabularies write that a word begins


def token_class(token: str, special: bool) -> str:
    """Which of `TOKEN_CLASSES` a token is of. One that begins a word is marked in nearly all vocabularies."""
    bare = token.strip(_MARKS)
    if special or not token:
        return "special"
    if bare and all(character.isdigit() for character in bare):
        return "digits"
    if bare and all(unicodedata.category(character)[0] in "PS" for character in bare):
        return "punctuation"
    return "word start" if token[0] in _MARKS else "word continued"


def groupings(
    model: Model, examples: Sequence[Example], keys: Iterable[str], sets: Sequence[str] = (), most: int = 60
) -> list[Grouping]:
    """All steps, and one grouping for each of `keys`.

    `phoneme`, `letter`, `aligned_letter`, `token`, `predicted_token`, `token_class` and `correct` are as the classes
    here say; `set` is which of `sets` an example is of, which has a word for each example ("target", "source"); any
    other key is one of the data's (accent, speaker, domain, ...). Of a key's groups the `most` frequent are profiled.

    Raises:
        InputError: the model or the data know nothing of a key.
    """
    made: list[Grouping] = [Everything()]
    writes = isinstance(model, DecoderModel)
    for key in dict.fromkeys(keys):
        if key == "phoneme":
            count = Counter(p.symbol for example in examples for p in example.phonemes)
            if not count:
                raise InputError("groups: no example has phonemes. Give their times in the manifest, or leave it out.")
            made.append(ByPhoneme(_frequent(count, most)))
        elif key in ("letter", "aligned_letter", "token", "predicted_token", "token_class"):
            if writes == key.endswith("letter"):
                other = "token, predicted_token and token_class" if writes else "letter and aligned_letter"
                raise InputError(f"groups: this model has no '{key}'; it has {other}.")
            made.append(_by_unit(model, examples, key, most))
        elif key == "correct":
            made.append(ByCorrectness())
        elif key == "set":
            if len(set(sets)) < 2:
                raise InputError("groups: 'set' tells data.test from data.source_test. Give both, or leave it out.")
            names = tuple(dict.fromkeys(sets))
            made.append(ByExample(key, names, [names.index(own) for own in sets]))
        else:
            count = Counter(example.group(key) for example in examples)
            if list(count) == ["unknown"]:
                raise InputError(f"groups: no example has '{key}'. Name a key of the data, or leave it out.")
            names = _frequent(count, most)
            numbers = {name: number for number, name in enumerate(names)}
            made.append(ByExample(key, names, [numbers.get(example.group(key), NONE) for example in examples]))
    return made


def _frequent(count: Counter[str], most: int) -> tuple[str, ...]:
    return tuple(sorted(sorted(count, key=lambda name: (-count[name], name))[:most]))


def _by_unit(model: Model, examples: Sequence[Example], key: str, most: int) -> Grouping:
    written = model.vocabulary
    if key.endswith("letter"):
        names = tuple(name for unit, name in enumerate(written) if unit != model.blank and name)
        return ByUnit(key, tuple(map(_shown, names)), _table(written, lambda unit: _number(names, written[unit])))
    tokenizer = model.tokenizer
    read: tuple[str, ...] | None = None
    if model.reader.unit == "tokens":
        read = tuple(token or "" for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    if key == "token_class":
        special = set(tokenizer.all_special_tokens)

        def of(tokens: Sequence[str]) -> Callable[[int], int]:
            return lambda unit: TOKEN_CLASSES.index(token_class(tokens[unit], tokens[unit] in special))

        return ByUnit(
            key, TOKEN_CLASSES, _table(written, of(written)), None if read is None else _table(read, of(read))
        )
    count: Counter[str] = Counter()
    for example in examples:
        count.update(written[unit] for unit in model.encode(example.text))
        if read is not None and key == "token":
            count.update(read[unit] for unit in model.reader.source(example))
    names = _frequent(count, most)
    tables = [_table(own, lambda unit, own=own: _number(names, own[unit])) for own in (written, read or ())]
    return ByUnit(key, names, tables[0], tables[1] if read is not None and key == "token" else None)


def _table(tokens: Sequence[str], of: Callable[[int], int]) -> Tensor:
    return torch.tensor([of(unit) for unit in range(len(tokens))], dtype=torch.long)


def _number(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else NONE


def _shown(letter: str) -> str:
    return "space" if letter in (" ", "|") else letter


def fitting_keys(model: Model, examples: Sequence[Example], sets: Sequence[str]) -> list[str]:
    """What steps can be grouped by, from what the model writes and the data say."""
    keys = ["phoneme"] if any(example.phonemes for example in examples) else []
    keys += ["token_class", "token"] if isinstance(model, DecoderModel) else ["letter"]
    for key in ("accent", "speaker", "domain"):
        there = {example.group(key) for example in examples}
        if 2 <= len(there) <= 12:
            keys.append(key)
    return [*keys, "set"] if len(set(sets)) > 1 and not {"accent", "domain"} & set(keys) else keys
