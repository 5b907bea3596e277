"""Word-level changes: which reference words are recognised correctly more or less often after the adaptation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from adapt.models.task import Task

FALSE_DISCOVERY_RATE = 0.05  # expected share of false positives among the words reported as significant
MIN_CHANGED = 6  # changed examples a word needs to be tested: with five, the smallest possible p-value is 0.06
_MAX_SUBSTITUTIONS = 3


@dataclass(frozen=True)
class AlignedWord:
    """One position of an alignment: the reference word and the hypothesis word. Either may be empty."""

    reference: str
    hypothesis: str


@dataclass(frozen=True)
class WordChange:
    """How often one reference word of a set was correct before and after.

    Attributes:
        word: The word.
        count: Occurrences in the references.
        examples: Examples whose reference contains the word.
        correct_before: Occurrences that were correct before.
        correct_after: Occurrences that were correct after.
        inserted_before: Insertions of the word before, where the reference has no word.
        inserted_after: Insertions of the word after.
        improved: Examples in which the word is correct more often after than before.
        worsened: Examples in which the word is correct less often after than before.
        p_value: Exact two-sided sign test of `improved` against `worsened` (McNemar's test if no example contains the
            word twice). None if their sum is below `MIN_CHANGED`.
        significant: True if the change is significant at `FALSE_DISCOVERY_RATE` (Benjamini & Hochberg 1995).
        substitutions_before: What the original model most often output instead of the word, with counts; "" is a
            deletion.
        substitutions_after: The same for the adapted model.
    """

    word: str
    count: int
    examples: int
    correct_before: int
    correct_after: int
    inserted_before: int
    inserted_after: int
    improved: int
    worsened: int
    p_value: float | None
    significant: bool
    substitutions_before: list[tuple[str, int]]
    substitutions_after: list[tuple[str, int]]


@dataclass(frozen=True)
class WordChanges:
    """All reference words of one set, the most improved first.

    `inserted_before` and `inserted_after` count all inserted words, including words that no reference contains.
    `aligned` is True if words were counted by alignment, and False if word order was ignored.
    """

    words: list[WordChange]
    inserted_before: int
    inserted_after: int
    aligned: bool


@dataclass(frozen=True)
class Transcript:
    """The outputs for one example before and after, each aligned with the reference.

    Attributes:
        set: The set that contains the example: "target" or "source".
        name: The audio file or the id of the example.
        reference: The reference text.
        improvement: Word edits before minus word edits after; negative if the output got worse.
        before: The alignment of the reference with the output before.
        after: The alignment of the reference with the output after.
        source: The source sentence if the task is translation, otherwise empty.
        index: The position of the example in its set.
    """

    set: str
    name: str
    reference: str
    improvement: int
    before: list[AlignedWord]
    after: list[AlignedWord]
    source: str = ""
    index: int = 0


def word_changes(references: Sequence[str], before: Sequence[str], after: Sequence[str], task: "Task") -> WordChanges:
    """Count how often each reference word is correct before and after.

    For speech, a word is correct if the alignment with the fewest edits matches it (see `align`). A translation may
    order the words differently: there, a word is correct as often as it occurs in both reference and hypothesis
    (BLEU's clipped counts), and substitutions are unknown.

    Args:
        references: The reference texts.
        before: The hypotheses before, one per reference.
        after: The hypotheses after, one per reference.
        task: Defines the words of a text, and whether their order matters.

    Returns:
        The changes of all words, and the number of inserted words.
    """
    reference_words = [task.words(text) for text in references]
    old, new = (
        _count_words(reference_words, [task.words(text) for text in texts], task.in_order) for texts in (before, after)
    )
    counts = Counter(word for words in reference_words for word in words)
    examples = Counter(word for words in reference_words for word in set(words))
    improved, worsened = Counter[str](), Counter[str]()
    for correct_before, correct_after in zip(old.correct, new.correct, strict=True):
        improved.update((correct_after - correct_before).keys())
        worsened.update((correct_before - correct_after).keys())
    tested = [word for word in counts if improved[word] + worsened[word] >= MIN_CHANGED]
    p_values = {word: _sign_test(improved[word], worsened[word]) for word in tested}
    significant = _discoveries(p_values)
    total_before, total_after = _total(old.correct), _total(new.correct)
    changes = [
        WordChange(
            word=word,
            count=count,
            examples=examples[word],
            correct_before=total_before[word],
            correct_after=total_after[word],
            inserted_before=old.inserted[word],
            inserted_after=new.inserted[word],
            improved=improved[word],
            worsened=worsened[word],
            p_value=p_values.get(word),
            significant=word in significant,
            substitutions_before=_most_common(old.substitutions.get(word, {})),
            substitutions_after=_most_common(new.substitutions.get(word, {})),
        )
        for word, count in counts.items()
    ]
    changes.sort(key=lambda change: (change.correct_before - change.correct_after, change.word))
    return WordChanges(changes, old.inserted.total(), new.inserted.total(), task.in_order)


def align(reference: str, hypothesis: str) -> list[AlignedWord]:
    """Align two texts word by word with the fewest edits. The mismatches are the numerator of the WER."""
    (alignment,) = _align_all([reference], [hypothesis])
    return alignment


@dataclass(frozen=True)
class _WordCounts:
    """Correct words of each example; insertions and substitutions of each word, summed over all examples."""

    correct: list[Counter[str]]
    inserted: Counter[str]
    substitutions: dict[str, Counter[str]]


def _count_words(
    references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]], aligned: bool
) -> _WordCounts:
    counts = _WordCounts([], Counter(), {})
    if not aligned:
        for expected, written in zip(references, hypotheses, strict=True):
            counts.correct.append(Counter(expected) & Counter(written))
            counts.inserted.update(Counter(written) - Counter(expected))
        return counts
    for alignment in _align_all([" ".join(words) for words in references], [" ".join(words) for words in hypotheses]):
        counts.correct.append(Counter(pair.reference for pair in alignment if pair.reference == pair.hypothesis))
        counts.inserted.update(pair.hypothesis for pair in alignment if not pair.reference)
        for pair in alignment:
            if pair.reference and pair.reference != pair.hypothesis:
                counts.substitutions.setdefault(pair.reference, Counter())[pair.hypothesis] += 1
    return counts


def _align_all(references: Sequence[str], hypotheses: Sequence[str]) -> list[list[AlignedWord]]:
    import jiwer

    output = jiwer.process_words(list(references), list(hypotheses))
    alignments = []
    for expected, written, chunks in zip(output.references, output.hypotheses, output.alignments, strict=True):
        pairs = []
        for chunk in chunks:
            left = expected[chunk.ref_start_idx : chunk.ref_end_idx]
            right = written[chunk.hyp_start_idx : chunk.hyp_end_idx]
            for i in range(max(len(left), len(right))):
                pairs.append(AlignedWord(left[i] if left else "", right[i] if right else ""))
        alignments.append(pairs)
    return alignments


def _total(counts: Sequence[Counter[str]]) -> Counter[str]:
    total = Counter[str]()
    for count in counts:
        total.update(count)
    return total


def _sign_test(improved: int, worsened: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(improved, improved + worsened).pvalue)


def _discoveries(p_values: Mapping[str, float]) -> set[str]:
    """Return the words that are significant at `FALSE_DISCOVERY_RATE`."""
    if not p_values:
        return set()
    from scipy.stats import false_discovery_control

    adjusted = false_discovery_control(np.array(list(p_values.values())))
    return {word for word, value in zip(p_values, adjusted, strict=True) if value <= FALSE_DISCOVERY_RATE}


def _most_common(substitutions: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(substitutions.items(), key=lambda item: (-item[1], item[0]))[:_MAX_SUBSTITUTIONS]
