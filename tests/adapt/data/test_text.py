"""Stripping punctuation is idempotent, works in any script, and leaves only words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.text import strip_punctuation


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("Don\u2019t  \u2018stop\u2019", "don't 'stop'"),
        ("well-known \u2014 fact\u2026", "well known fact"),
        ("take 3 of 10", "take 3 of 10"),
        ("CAFE\u0301", "caf\u00e9"),
        ("Gr\u00f6\u00dfe \u00c9T\u00c9", "gr\u00f6\u00dfe \u00e9t\u00e9"),
        (
            "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
            "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
        ),
        ("\u0928\u092e\u0938\u094d\u0924\u0947\u0964", "\u0928\u092e\u0938\u094d\u0924\u0947"),  # vowel signs are marks
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("soft\u00adhyphen", "softhyphen"),
        ("rock ' n ' roll", "rock n roll"),
        ("\u2026 !? \u2764\ufe0f", ""),
        ("\tone\ntwo\u00a0three ", "one two three"),
    ],
)
def test_examples(given_text: str, expected: str) -> None:
    assert strip_punctuation(given_text) == expected


def test_characters_to_keep() -> None:
    assert strip_punctuation("don't half-do it", keep="") == "don t half do it"
    assert strip_punctuation("don't half-do it", keep="'-") == "don't half-do it"


@given(st.text())
def test_idempotent_and_only_words(text: str) -> None:
    once = strip_punctuation(text)
    assert strip_punctuation(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == " ".join(once.split())
    categories = {unicodedata.category(c) for c in once if c not in " '\u200c\u200d"}
    assert all(category[0] in "LM" or category == "Nd" for category in categories)
