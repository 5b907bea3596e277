"""The n-gram: it adds up to one, knows what it saw, and backs off."""

import numpy as np
import pytest

from adapt.errors import InputError
from adapt.hot_words.ngram import BEGIN, NGram

TEXTS = [[1, 2, 3, 0], [1, 2, 4, 0], [1, 2, 3, 0]]


@pytest.mark.parametrize("before", [[BEGIN], [BEGIN, 1], [1, 2], [2, 3], [4, 4], [9]])
def test_probabilities_add_up_to_one(before: list[int]):
    ngram = NGram(TEXTS, 10, 3)
    assert float((np.exp(ngram.scores(before)) / 10).sum()) == pytest.approx(1.0, abs=1e-5)


def test_witten_and_bell_by_hand():
    ngram = NGram([[1, 2]], 4, 2)
    unigram = np.full(4, 1 / 4) * 2 / 4 + np.array([0, 1, 1, 0]) / 4
    bigram = unigram / 2 + np.array([0, 0, 1, 0]) / 2
    assert np.exp(ngram.scores([1])) / 4 == pytest.approx(bigram, abs=1e-6)
    assert np.exp(ngram.scores([3])) / 4 == pytest.approx(unigram, abs=1e-6)  # never seen: the shorter context


def test_what_was_seen_is_likelier():
    ngram = NGram(TEXTS, 10, 3)
    after = ngram.scores([BEGIN, 1, 2])
    assert after[3] > after[4] > after[5]
    assert ngram.scores([BEGIN])[1] == max(ngram.scores([BEGIN]))
    assert not ngram.scores([7]).max() > ngram.scores([BEGIN]).max()


def test_without_text_nothing_changes():
    assert np.allclose(NGram([], 5, 3).scores([BEGIN, 1]), 0.0)
    with pytest.raises(InputError, match="order"):
        NGram([], 5, 0)
