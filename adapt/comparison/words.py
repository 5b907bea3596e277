"""Which words of the references are written right more often after than before, and which less."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from adapt.models.task import Task

LEVEL = 0.05  # of false discoveries among the words that are said to have changed
FEWEST = 6  # examples that changed for a word that is tested: of five, even if all of one sign, p is 0.06
_INSTEAD = 3


@dataclass(frozen=True)
class Word:
    """One place of an alignment: what should stand there, and what does; either may be empty."""

    expected: str
    written: str


@dataclass(frozen=True)
class WordChange:
    """One word of a set's references: `count` is how often it stands in them, in so many `examples`.

    `before` and `after` count how often it was written right, `extra_before` and `extra_after` how often it was written
    where no word should stand. `gained` examples have it right more often after than before, `lost` less often; `p` is
    the exact two-sided sign test of these two (McNemar's, where no example has it twice), None where they are fewer
    than `FEWEST` together. `clear` words changed beyond chance: of all that are, a share of at most `LEVEL` did not
    (Benjamini & Hochberg 1995). `instead_before` and `instead_after` are what was written in its place, the most
    frequent first, "" for nothing.
    """

    word: str
    count: int
    examples: int
    before: int
    after: int
    extra_before: int
    extra_after: int
    gained: int
    lost: int
    p: float | None
    clear: bool
    instead_before: list[tuple[str, int]]
    instead_after: list[tuple[str, int]]


@dataclass(frozen=True)
class WordChanges:
    """The words of one set's references, those that gained most first; `in_order` says how they were counted.

    `extra_before` and `extra_after` count what was written where no word should stand, also words of no reference.
    """

    words: list[WordChange]
    extra_before: int
    extra_after: int
    in_order: bool


def word_changes(references: Sequence[str], before: Sequence[str], after: Sequence[str], task: "Task") -> WordChanges:
    """How often each word of the references was written right before and after.

    Of speech, a word is right where the alignment with the fewest edits has it (`align`). A translation may have the
    reference's words in another order: there a word is right as often in a sentence as both reference and answer have
    it (BLEU's clipped counts), and what stands in its place is not known.
    """
    said = [task.words(text) for text in references]
    old, new = (_judge(said, [task.words(text) for text in texts], task.in_order) for texts in (before, after))
    counts = Counter(word for words in said for word in words)
    examples = Counter(word for words in said for word in set(words))
    gained, lost = Counter[str](), Counter[str]()
    for was, now in zip(old.right, new.right, strict=True):
        gained.update((now - was).keys())
        lost.update((was - now).keys())
    p = {word: _sign_test(gained[word], lost[word]) for word in counts if gained[word] + lost[word] >= FEWEST}
    clear = _discoveries(p)
    was, now = _summed(old.right), _summed(new.right)
    found = [
        WordChange(
            word, count, examples[word], was[word], now[word], old.extra[word], new.extra[word], gained[word],
            lost[word], p.get(word), word in clear, _most(old.instead, word), _most(new.instead, word),
        )
        for word, count in counts.items()
    ]  # fmt: skip
    found.sort(key=lambda own: (own.before - own.after, own.word))
    return WordChanges(found, old.extra.total(), new.extra.total(), task.in_order)


def align(reference: str, answer: str) -> list[Word]:
    """Align two texts word by word with the fewest edits; the places that differ are as many as the WER's numerator."""
    (places,) = _aligned([reference], [answer])
    return places


@dataclass(frozen=True)
class _Judged:
    """For each example, how often each word is right; over all, which were written too often, and what instead."""

    right: list[Counter[str]]
    extra: Counter[str]
    instead: dict[str, Counter[str]]


def _judge(references: Sequence[Sequence[str]], answers: Sequence[Sequence[str]], in_order: bool) -> _Judged:
    right, extra, instead = [], Counter[str](), {}
    if not in_order:
        for words, written in zip(references, answers, strict=True):
            right.append(Counter(words) & Counter(written))
            extra.update(Counter(written) - Counter(words))
        return _Judged(right, extra, instead)
    for places in _aligned([" ".join(words) for words in references], [" ".join(words) for words in answers]):
        right.append(Counter(place.expected for place in places if place.expected == place.written))
        extra.update(place.written for place in places if not place.expected)
        for place in places:
            if place.expected and place.expected != place.written:
                instead.setdefault(place.expected, Counter())[place.written] += 1
    return _Judged(right, extra, instead)


def _aligned(references: Sequence[str], answers: Sequence[str]) -> list[list[Word]]:
    import jiwer

    words = jiwer.process_words(list(references), list(answers))
    found = []
    for expected, written, chunks in zip(words.references, words.hypotheses, words.alignments, strict=True):
        places = []
        for chunk in chunks:
            left = expected[chunk.ref_start_idx : chunk.ref_end_idx]
            right = written[chunk.hyp_start_idx : chunk.hyp_end_idx]
            for number in range(max(len(left), len(right))):
                places.append(Word(left[number] if left else "", right[number] if right else ""))
        found.append(places)
    return found


def _summed(counts: Sequence[Counter[str]]) -> Counter[str]:
    total = Counter[str]()
    for own in counts:
        total.update(own)
    return total


def _sign_test(gained: int, lost: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue)


def _discoveries(p: dict[str, float]) -> set[str]:
    if not p:
        return set()
    from scipy.stats import false_discovery_control

    adjusted = false_discovery_control(np.array(list(p.values())))
    return {word for word, value in zip(p, adjusted, strict=True) if value <= LEVEL}


def _most(instead: dict[str, Counter[str]], word: str) -> list[tuple[str, int]]:
    written = instead.get(word, {})
    return sorted(written.items(), key=lambda found: (-found[1], found[0]))[:_INSTEAD]


@dataclass(frozen=True)
class Transcript:
    """One example before and after, aligned with its reference word by word. `better` counts word edits saved.

    `name` is its audio file or its id, `source` the text that was translated, `number` its place in the set.
    """

    set: str
    name: str
    reference: str
    better: int
    before: list[Word]
    after: list[Word]
    source: str = ""
    number: int = 0
