"""NIST's matched-pair test: its segments, and its p-value against the formula."""

import numpy as np
import pytest
from scipy.stats import norm

from adapt.comparison.matched_pairs import matched_pairs

WORDS = "a b c d e f g h i j"


@pytest.mark.parametrize(
    ("first", "second", "segments", "difference"),
    [
        (WORDS, WORDS, 0, 0.0),
        ("a x c d e f g h i j", WORDS, 1, -1.0),
        ("a x c d e f g h i j", "a b c d e x g h i j", 2, 0.0),  # three correct words between the two errors
        ("a x c d e f g h i j", "a b c x e f g h i j", 1, 0.0),  # only one correct word between them
        ("a b c d e f g h i j k l", "b c d e f g h i j", 2, -0.5),  # insertions at the end, a deletion at the start
    ],
)
def test_segments_are_cut_where_both_are_right(first, second, segments, difference):
    result = matched_pairs([WORDS], [first], [second])
    assert (result.segments, result.difference) == (segments, difference)


def test_utterances_are_never_joined_and_the_p_value_follows_the_formula():
    references = ["a b"] * 40
    first = ["a x"] * 30 + ["a b"] * 10
    second = ["a b"] * 25 + ["x y"] * 15
    result = matched_pairs(references, first, second)
    differences = np.array([-1.0] * 25 + [1.0] * 5 + [2.0] * 10)
    z = differences.mean() / (differences.std(ddof=1) / 40**0.5)
    assert result.segments == 40 and result.difference == pytest.approx(differences.mean())
    assert result.p_value == pytest.approx(2 * norm.sf(abs(z)))


def test_without_variance_there_is_no_p_value():
    assert matched_pairs(["a b"] * 5, ["a x"] * 5, ["a b"] * 5).p_value is None
    assert matched_pairs(["a b"], ["a b"], ["a b"]).p_value is None


def test_equal_recognisers_are_rarely_told_apart():
    draw = np.random.default_rng(0)
    references = [WORDS] * 100

    def recogniser():
        return [" ".join(w if draw.random() > 0.1 else "x" for w in WORDS.split()) for _ in references]

    values = [matched_pairs(references, recogniser(), recogniser()).p_value or 1.0 for _ in range(100)]
    assert sum(p < 0.05 for p in values) <= 12
