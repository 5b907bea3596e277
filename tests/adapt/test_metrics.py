"""Error rates agree with counting by hand and with jiwer's own totals; intervals hold the estimate."""

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.metrics import bootstrap_interval, error_rates, paired_interval

REFERENCES = ["a b c", "one two", "x y", "same words here"]
ANSWERS = ["a x c d", "", "y", "same words here"]
TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "abc"]), min_size=1, max_size=6).map(" ".join)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS | st.just("")), min_size=1, max_size=5)


def test_by_hand():
    rates = error_rates(REFERENCES, ANSWERS)
    assert rates.word_edits.tolist() == [2, 2, 1, 0] and rates.words.tolist() == [3, 2, 2, 3]
    assert rates.character_edits.tolist() == [3, 7, 2, 0] and rates.characters.tolist() == [5, 7, 3, 15]
    assert rates.wer == 5 / 10 and rates.cer == 12 / 30 and len(rates) == 4


@given(PAIRS)
def test_totals_are_jiwers(pairs):
    references, answers = (list(side) for side in zip(*pairs, strict=True))
    rates = error_rates(references, answers)
    words, characters = jiwer.process_words(references, answers), jiwer.process_characters(references, answers)
    assert rates.word_edits.sum() == words.substitutions + words.deletions + words.insertions
    assert rates.character_edits.sum() == characters.substitutions + characters.deletions + characters.insertions
    assert rates.wer == pytest.approx(words.wer) and rates.cer == pytest.approx(characters.cer)


def test_case_spaces_and_composition_do_not_count():
    assert error_rates(["Caf\u00e9  au \n lait"], [" cafe\u0301 AU lait "]).cer == 0


@pytest.mark.parametrize("reference", ["", "  "])
def test_a_reference_without_words_is_refused(reference):
    with pytest.raises(ValueError, match="without words"):
        error_rates(["a", reference], ["a", "b"])


def test_as_many_answers_as_references():
    with pytest.raises(ValueError):
        error_rates(["a", "b"], ["a"])


def test_utterances_are_picked_by_index_and_by_mask():
    rates = error_rates(REFERENCES, ANSWERS)
    chosen = rates[np.array([3, 0])]
    assert chosen.words.tolist() == [3, 3] and chosen.word_edits.tolist() == [0, 2]
    assert chosen.characters.tolist() == [15, 5] and chosen.character_edits.tolist() == [0, 3]
    assert len(rates[np.array([True, False, True, False])]) == 2
    assert rates[rates.word_edits == 0].wer == 0


@given(st.integers(0, 100))
def test_intervals_hold_the_estimate(seed):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(3, 12, 40)
    edits = draw.binomial(lengths, 0.3)
    low, high = bootstrap_interval(edits, lengths)
    assert 0 <= low < edits.sum() / lengths.sum() < high <= 1
    assert (low, high) == bootstrap_interval(edits, lengths)
    assert (low, high) != bootstrap_interval(edits, lengths, seed=1)


def test_more_utterances_make_narrower_intervals():
    edits, lengths = np.array([0, 1, 2, 1, 0, 3]), np.array([5, 4, 6, 5, 3, 6])
    few, many = (bootstrap_interval(np.tile(edits, n), np.tile(lengths, n)) for n in (1, 30))
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])


def test_one_utterance_has_an_interval_of_no_width():
    rates = error_rates(["a b c d"], ["a b c"])
    assert bootstrap_interval(rates.word_edits, rates.words) == (0.25, 0.25)


def test_equal_answers_differ_by_nothing():
    rates = error_rates(REFERENCES, ANSWERS)
    assert paired_interval(rates, rates) == (0, 0)


def test_the_paired_interval_is_of_after_minus_before():
    before = error_rates(["a b c d"] * 30, ["a b"] * 15 + ["a b c"] * 15)
    after = error_rates(["a b c d"] * 30, ["a b c d"] * 15 + ["a b c"] * 15)
    low, high = paired_interval(before, after)
    assert low < after.wer - before.wer < high < 0
    assert paired_interval(after, before) == pytest.approx((-high, -low))
    assert paired_interval(before, after) == (low, high)


def test_pairing_takes_the_same_utterances_from_both():
    """Every utterance gains one word of four: the difference is certain, whichever are drawn."""
    references = ["a b c d"] * 20
    before = error_rates(references, ["a b c", "a b"] * 10)
    after = error_rates(references, ["a b c d", "a b c"] * 10)
    assert paired_interval(before, after) == (-0.25, -0.25)


def test_as_dict_is_what_the_rates_say():
    rates = error_rates(REFERENCES, ANSWERS)
    values = rates.as_dict()
    assert (values["wer"], values["cer"], values["utterances"]) == (rates.wer, rates.cer, 4)
    assert values["wer_interval"][0] <= rates.wer <= values["wer_interval"][1]
    assert values["cer_interval"] == bootstrap_interval(rates.character_edits, rates.characters)
