"""The sentences: their alphabet and length, how many there are, and the parts that never share one."""

import random
from collections import Counter

import pytest

from adapt.data.synthetic import sentences

LANGUAGES = pytest.mark.parametrize(
    ("grammar", "alphabet"),
    [
        (sentences.ENGLISH, "abcdefghijklmnopqrstuvwxyz' "),
        (sentences.GERMAN, "abcdefghijklmnopqrstuvwxyzäöüß "),
    ],
    ids=["english", "german"],
)


def some(grammar: sentences.Grammar, count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [grammar.sentence(rng) for _ in range(count)]


@LANGUAGES
def test_only_letters_of_the_language_and_three_to_eight_words(grammar, alphabet):
    for sentence in some(grammar, 5000):
        assert set(sentence) <= set(alphabet), sentence
        assert 3 <= len(sentence.split(" ")) <= 8, sentence
        assert "" not in sentence.split(" "), sentence


@LANGUAGES
def test_every_word_is_used_and_none_is_rare(grammar, alphabet):
    counts = Counter(word for sentence in some(grammar, 20_000) for word in sentence.split())
    assert 350 <= len(grammar.words()) <= 520
    assert set(counts) == grammar.words()
    assert min(counts.values()) >= 10


@LANGUAGES
def test_there_are_tens_of_thousands_of_sentences(grammar, alphabet):
    assert len(set(some(grammar, 100_000))) > 20_000


@LANGUAGES
def test_no_slot_is_unfilled_or_unused(grammar, alphabet):
    texts = [*grammar.templates, *(filler for fillers in grammar.slots.values() for filler in fillers)]
    assert {name for text in texts for name in sentences._SLOT.findall(text)} == set(grammar.slots)


def test_the_same_generator_gives_the_same_sentences():
    assert some(sentences.ENGLISH, 50, seed=3) == some(sentences.ENGLISH, 50, seed=3)
    assert some(sentences.ENGLISH, 50, seed=3) != some(sentences.ENGLISH, 50, seed=4)
    assert sentences.english(random.Random(1)) in some(sentences.ENGLISH, 1, seed=1)
    assert sentences.german(random.Random(1)) in some(sentences.GERMAN, 1, seed=1)


def test_german_has_its_letters():
    assert set("äöüß") <= set("".join(sentences.GERMAN.words()))


def test_parts_have_their_shares_and_do_not_change():
    distinct = set(some(sentences.ENGLISH, 20_000))
    counts = Counter(map(sentences.split_of, distinct))
    shares = {name: counts[name] / len(distinct) for name in counts}
    wanted = {"train": 0.8, "validation": 0.1, "test": 0.05, "source_test": 0.05}
    assert shares == pytest.approx(wanted, abs=0.02)
    # Of a released corpus no sentence may ever change its part.
    assert sentences.split_of("wake me up at noon") == "train"
    assert sentences.split_of("die katze schläft auf dem tisch") == "test"


def test_the_fingerprint_changes_with_the_grammar():
    one = sentences.Grammar(("{a} b",), {"a": ("x", "y")})
    other = sentences.Grammar(("{a} b",), {"a": ("x", "z")})
    assert one.fingerprint() == sentences.Grammar(("{a} b",), {"a": ("x", "y")}).fingerprint()
    assert one.fingerprint() != other.fingerprint()
