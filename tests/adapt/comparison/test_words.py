"""Which words were written right: counts that add up to the error rate, a test that chance passes at its level."""

from collections import Counter

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from adapt.comparison.words import FEWEST, LEVEL, WordChange, word_changes
from adapt.models.task import recognition, translation

WORDS = st.lists(st.sampled_from(["a", "b", "c", "ab"]), min_size=1, max_size=6).map(" ".join)


def by_word(*arguments) -> dict[str, WordChange]:
    return {own.word: own for own in word_changes(*arguments).words}


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=6))
def test_counts_are_the_hits_and_insertions_of_the_error_rate(rows):
    references, before, after = map(list, zip(*rows, strict=True))
    found = word_changes(references, before, after, recognition)
    for texts, right, extra in (
        (before, sum(own.before for own in found.words), found.extra_before),
        (after, sum(own.after for own in found.words), found.extra_after),
    ):
        counted = jiwer.process_words(references, texts)
        assert (right, extra) == (counted.hits, counted.insertions)
    for own in found.words:
        assert own.count == sum(text.split().count(own.word) for text in references)
        assert own.count - own.before >= sum(times for _, times in own.instead_before)
        assert abs(own.after - own.before) <= own.count and own.gained + own.lost <= own.examples


def test_an_example():
    references = ["the cat sat", "the the cat", "Sat down"]
    before = ["the bat", "the the bat", "sat the down"]
    after = ["the cat sat", "the cat", "bat down"]
    found = word_changes(references, before, after, recognition)
    assert [own.word for own in found.words] == ["cat", "down", "sat", "the"]  # by what they gained
    words = {own.word: own for own in found.words}
    cat, the, sat = (words[word] for word in ("cat", "the", "sat"))
    assert (cat.count, cat.examples, cat.before, cat.after) == (2, 2, 0, 2) and (cat.gained, cat.lost) == (2, 0)
    assert cat.instead_before == [("bat", 2)] and cat.instead_after == []
    assert (the.before, the.after, the.gained, the.lost) == (3, 2, 0, 1)
    assert (the.extra_before, the.extra_after) == (1, 0) and the.instead_after == [("", 1)]
    assert (sat.before, sat.after, sat.gained, sat.lost) == (1, 1, 1, 1)
    assert sat.instead_before == [("", 1)] and sat.instead_after == [("bat", 1)]
    assert (found.extra_before, found.extra_after) == (1, 0)
    assert all(own.p is None and not own.clear for own in found.words)


def test_a_translation_may_have_another_order():
    task = translation()
    found = by_word(["Heute regnet es."], ["Es schneit, es schneit."], ["Es regnet heute"], task)
    # BLEU's words, case and all; "es" is right once, however often it is written.
    assert {word: (own.before, own.after) for word, own in found.items()} == {
        "Heute": (0, 0), "regnet": (0, 1), "es": (1, 0),
    }  # fmt: skip
    found = by_word(["es es regnet"], ["es es es"], ["regnet es"], task)
    assert (found["es"].before, found["es"].after, found["es"].extra_before) == (2, 1, 1)
    assert found["es"].instead_before == []
    assert task.words("Nein, 3,5 Grad!") == ["Nein", "3,5", "Grad"]


def test_the_sign_test_is_over_examples_and_needs_enough_of_them():
    def found(examples: int) -> WordChange:
        return by_word(["a a"] * examples, ["b b"] * examples, ["a a"] * examples, recognition)["a"]

    few, enough = found(FEWEST - 1), found(FEWEST)
    assert (few.before, few.after, few.p, few.clear) == (0, 2 * (FEWEST - 1), None, False)
    # Two places of one example are not two witnesses.
    assert enough.p == binomtest(FEWEST, FEWEST).pvalue == pytest.approx(2 * 0.5**FEWEST) and enough.clear
    mixed = by_word(["a"] * 9, ["b"] * 7 + ["a"] * 2, ["a"] * 7 + ["b"] * 2, recognition)["a"]
    assert mixed.p == binomtest(7, 9).pvalue > LEVEL and not mixed.clear


def test_chance_is_not_sold_and_planted_words_are_found():
    """200 words whose rightness is drawn anew, 10 that were learned: about as few false ones as the level says."""
    draw = np.random.default_rng(0)
    names = [f"w{number}" for number in range(200)] + [f"learned{number}" for number in range(10)]
    references = [" ".join(draw.choice(names, 30, replace=False)) for _ in range(200)]

    def written(learned: float) -> list[str]:
        return [
            " ".join(
                word if draw.random() < (learned if word.startswith("learned") else 0.5) else "x"
                for word in text.split()
            )
            for text in references
        ]

    found = word_changes(references, written(0.1), written(0.9), recognition).words
    clear = Counter(own.word.startswith("learned") for own in found if own.clear)
    assert clear[True] == 10 and clear[False] <= 3
    # Each of them by itself, one in twenty would seem to have changed.
    others = [own.p for own in found if own.p is not None and not own.word.startswith("learned")]
    assert len(others) > 150 and sum(p < LEVEL for p in others) >= 3
    assert {own.word for own in found[:10]} == {name for name in names if name.startswith("learned")}
