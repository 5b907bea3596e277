"""The prefix beam search against all texts, and with hot words."""

import itertools

import numpy as np
import pytest

from adapt.hot_words.ctc_beam import Search, beam_search
from adapt.hot_words.ngram import NGram
from adapt.hot_words.trie import Trie
from adapt.models.labels import spelled

BLANK = 0


def log_probs(seed: int, time: int, units: int, sharp: float = 1.0) -> np.ndarray:
    logits = sharp * np.random.default_rng(seed).normal(size=(time, units))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def exact(values: np.ndarray) -> dict[tuple[int, ...], float]:
    """The log-probability of every text, over all of its paths."""
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(values.shape[1]), repeat=len(values)):
        text = tuple(spelled(path, BLANK))
        score = float(sum(row[unit] for row, unit in zip(values, path, strict=True)))
        totals[text] = np.logaddexp(totals.get(text, -np.inf), score)
    return totals


@pytest.mark.parametrize("seed", range(6))
def test_it_finds_the_likeliest_text(seed: int):
    values = log_probs(seed, 5, 4)
    totals = exact(values)
    assert tuple(beam_search(values, Search(BLANK, beams=200))) == max(totals, key=lambda text: totals[text])


@pytest.mark.parametrize("seed", range(6))
def test_hot_words_add_their_bonus(seed: int):
    values = log_probs(seed, 5, 4)
    trie = Trie((3,))
    trie.add([1, 2, 3], [2.0, 2.0, 0.0], anywhere=False)
    totals = exact(values)

    def score(text: tuple[int, ...]) -> float:
        words = "".join(map(str, text)).split("3")
        return totals[text] + 4.0 * words.count("12")

    found = beam_search(values, Search(BLANK, trie, boundary=3, beams=300))
    assert tuple(found) == max(totals, key=score)


def test_an_ngram_decides_between_equal_units():
    values = np.log(np.array([[0.02, 0.49, 0.49], [0.96, 0.02, 0.02]], dtype=np.float32))
    for unit in (1, 2):
        assert beam_search(values, Search(BLANK, ngram=NGram([[unit, 3]] * 3, 4, 2))) == [unit]


def test_no_steps_and_certain_steps():
    assert beam_search(np.zeros((0, 3), np.float32), Search(BLANK)) == []
    certain = np.full((4, 3), -np.inf, np.float32)
    certain[[0, 1, 2, 3], [1, 0, 1, 2]] = 0.0
    assert beam_search(certain, Search(BLANK)) == [1, 1, 2]
