"""A reference in a model's writing has the words of the reference, and the style of the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.normalisers import Normaliser
from adapt.data.rewrite import rewrite

ENGLISH, BASIC = Normaliser("english"), Normaliser("basic")
WORDS = st.lists(st.sampled_from(["a", "b", "cat", "don't", "it", "is"]), min_size=1, max_size=7).map(" ".join)
ANSWERS = st.lists(st.sampled_from(["A", "b,", "cat.", "Do", "not", "it's", "Dog!"]), max_size=7).map(" ".join)


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("it is fifteen i think", "It's 15, I think.", "It's 15, I think."),
        ("so the man had a jacket", "The man had a racket.", "So the man had a jacket."),
        ("twenty five dollars", "$25.", "$25."),
        ("see another one", "See an other one!", "See another one!"),
        ("he said hello to me", "He said: hello.", "He said: hello to me."),
        ("and now five", "And. Now 5.", "And. Now 5."),
        ("abc", "", "abc"),
        ("a cat", "Dog", "A cat"),
    ],
)
def test_by_hand(reference, answer, expected):
    assert rewrite(reference, answer, ENGLISH) == expected


@given(WORDS, ANSWERS)
def test_the_words_are_those_of_the_reference(reference, answer):
    assert ENGLISH(rewrite(reference, answer, ENGLISH)).split() == ENGLISH(reference).split()


@given(WORDS)
def test_an_answer_with_the_same_words_is_taken_whole(reference):
    answer = f"{reference.capitalize()}!"
    assert rewrite(reference, answer, BASIC) == answer
