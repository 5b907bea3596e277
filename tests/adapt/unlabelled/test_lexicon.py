"""Word lists for CTC: the search finds the best path, and words are weighted by frequency."""

from itertools import product

import pytest
import torch

from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.ctc import ctc_path
from adapt.unlabelled.lexicon import make_lexicon, separates_words


@pytest.fixture(scope="module")
def model(base):
    return load_model(str(base)).model


def best_of_all(model, lexicon, log_probs):
    """The best text of up to two words by trying all, with the score of its best alignment."""
    space = lexicon.space
    prior = dict(zip(lexicon.words, lexicon.prior.tolist(), strict=True))
    scores = {}
    for count in (1, 2):
        for words in product(lexicon.words, repeat=count):
            for tail in ([], [space]):
                units = model.encode(" ".join(words)) + tail
                if len(units) + sum(a == b for a, b in zip(units, units[1:], strict=False)) > len(log_probs):
                    continue
                path = ctc_path(log_probs, units, model.blank)
                score = float(log_probs.gather(1, path.unsqueeze(1)).sum()) + sum(prior[word] for word in words)
                text = " ".join(words)
                scores[text] = max(score, scores.get(text, score))
    best = max(scores, key=lambda text: scores[text])
    return best, scores[best]


@pytest.mark.parametrize("seed", range(12))
def test_the_search_finds_the_best_path_of_all(model, seed):
    draw = torch.Generator().manual_seed(seed)
    log_probs = (3 * torch.randn(7, len(model.vocabulary), generator=draw)).log_softmax(-1)
    lexicon = make_lexicon(model, ["ab aab ca", "ab d"], 1.0)
    text, score = lexicon.decode(log_probs)
    if len(text.split()) <= 2 and text:  # longer texts and silence are not among those that are tried
        expected, best = best_of_all(model, lexicon, log_probs)
        assert (text, score * len(log_probs)) == (expected, pytest.approx(best, abs=1e-3))


def test_a_misspelt_word_becomes_the_known_one(model):
    log_probs = torch.full((6, len(model.vocabulary)), -8.0)
    for step, letter in enumerate("abdcba"):
        log_probs[step, model.encode(letter)[0]] = 0.0
    log_probs = log_probs.log_softmax(-1)
    assert make_lexicon(model, ["abacba"], 1.0).decode(log_probs)[0] == "abacba"
    assert make_lexicon(model, ["abdcba abacba"], 1.0).decode(log_probs)[0] == "abdcba"


def test_frequent_words_win_where_the_sound_does_not_decide(model):
    log_probs = torch.full((3, len(model.vocabulary)), -9.0)
    for step, letters in enumerate(("a", "bc", "a")):
        for letter in letters:
            log_probs[step, model.encode(letter)[0]] = -0.7
    for often, rare in (("aba", "aca"), ("aca", "aba")):
        assert make_lexicon(model, [often] * 9 + [rare], 1.0).decode(log_probs)[0] == often


def test_what_cannot_be_written_is_left_out_and_nothing_left_is_an_error(model):
    assert make_lexicon(model, ["ab xyz"]).words == ("ab",)
    with pytest.raises(InputError, match="words: none of the words"):
        make_lexicon(model, ["xyz"])
    assert separates_words(model)
    assert make_lexicon(model, ["ab"]).decode(torch.zeros(0, len(model.vocabulary))) == ("", 0.0)
