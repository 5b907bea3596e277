"""Word changes: the counts agree with the error rate, and the significance test controls false discoveries."""

from collections import Counter

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from adapt.comparison.words import FALSE_DISCOVERY_RATE, MIN_CHANGED, WordChange, word_changes
from adapt.models.task import recognition, translation

WORDS = st.lists(st.sampled_from(["a", "b", "c", "ab"]), min_size=1, max_size=6).map(" ".join)


def by_word(*arguments) -> dict[str, WordChange]:
    return {own.word: own for own in word_changes(*arguments).words}


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=6))
def test_counts_are_the_hits_and_insertions_of_the_error_rate(rows):
    references, before, after = map(list, zip(*rows, strict=True))
    found = word_changes(references, before, after, recognition)
    for texts, right, extra in (
        (before, sum(own.correct_before for own in found.words), found.inserted_before),
        (after, sum(own.correct_after for own in found.words), found.inserted_after),
    ):
        counted = jiwer.process_words(references, texts)
        assert (right, extra) == (counted.hits, counted.insertions)
    for own in found.words:
        assert own.count == sum(text.split().count(own.word) for text in references)
        assert own.count - own.correct_before >= sum(times for _, times in own.substitutions_before)
        assert abs(own.correct_after - own.correct_before) <= own.count and own.improved + own.worsened <= own.examples


def test_an_example():
    references = ["the cat sat", "the the cat", "Sat down"]
    before = ["the bat", "the the bat", "sat the down"]
    after = ["the cat sat", "the cat", "bat down"]
    found = word_changes(references, before, after, recognition)
    assert [own.word for own in found.words] == ["cat", "down", "sat", "the"]  # the most improved first
    words = {own.word: own for own in found.words}
    cat, the, sat = (words[word] for word in ("cat", "the", "sat"))
    assert (cat.count, cat.examples, cat.correct_before, cat.correct_after) == (2, 2, 0, 2)
    assert (cat.improved, cat.worsened) == (2, 0)
    assert cat.substitutions_before == [("bat", 2)] and cat.substitutions_after == []
    assert (the.correct_before, the.correct_after, the.improved, the.worsened) == (3, 2, 0, 1)
    assert (the.inserted_before, the.inserted_after) == (1, 0) and the.substitutions_after == [("", 1)]
    assert (sat.correct_before, sat.correct_after, sat.improved, sat.worsened) == (1, 1, 1, 1)
    assert sat.substitutions_before == [("", 1)] and sat.substitutions_after == [("bat", 1)]
    assert (found.inserted_before, found.inserted_after) == (1, 0)
    assert all(own.p_value is None and not own.significant for own in found.words)


def test_word_order_is_ignored_in_translations():
    task = translation()
    found = by_word(["Heute regnet es."], ["Es schneit, es schneit."], ["Es regnet heute"], task)
    # Words are those of BLEU, with case; "es" is correct once, however often it is output.
    assert {word: (own.correct_before, own.correct_after) for word, own in found.items()} == {
        "Heute": (0, 0), "regnet": (0, 1), "es": (1, 0),
    }  # fmt: skip
    found = by_word(["es es regnet"], ["es es es"], ["regnet es"], task)
    assert (found["es"].correct_before, found["es"].correct_after, found["es"].inserted_before) == (2, 1, 1)
    assert found["es"].substitutions_before == []
    assert task.words("Nein, 3,5 Grad!") == ["Nein", "3,5", "Grad"]


def test_the_sign_test_is_over_examples_and_needs_enough_of_them():
    def found(examples: int) -> WordChange:
        return by_word(["a a"] * examples, ["b b"] * examples, ["a a"] * examples, recognition)["a"]

    few, enough = found(MIN_CHANGED - 1), found(MIN_CHANGED)
    assert (few.correct_before, few.correct_after, few.p_value, few.significant) == (
        0,
        2 * (MIN_CHANGED - 1),
        None,
        False,
    )
    # Two occurrences in one example count as one.
    assert (
        enough.p_value == binomtest(MIN_CHANGED, MIN_CHANGED).pvalue == pytest.approx(2 * 0.5**MIN_CHANGED)
        and enough.significant
    )
    mixed = by_word(["a"] * 9, ["b"] * 7 + ["a"] * 2, ["a"] * 7 + ["b"] * 2, recognition)["a"]
    assert mixed.p_value == binomtest(7, 9).pvalue > FALSE_DISCOVERY_RATE and not mixed.significant


def test_random_changes_are_rejected_and_real_ones_are_found():
    """200 words are correct at random and 10 were learned; false discoveries stay near the controlled rate."""
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
    clear = Counter(own.word.startswith("learned") for own in found if own.significant)
    assert clear[True] == 10 and clear[False] <= 3
    # Without correction for multiple tests, about one word in twenty would seem to have changed.
    others = [own.p_value for own in found if own.p_value is not None and not own.word.startswith("learned")]
    assert len(others) > 150 and sum(p < FALSE_DISCOVERY_RATE for p in others) >= 3
    assert {own.word for own in found[:10]} == {name for name in names if name.startswith("learned")}
