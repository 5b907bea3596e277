"""Stripping punctuation is idempotent, works in any script, and leaves only words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.text import lower_case, normalise, strip_punctuation


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
    categories = {unicodedata.category(c) for c in once if c not in " '\u200c\u200d\u2030\u2031"}
    assert all(category[0] in "LMN" or category in ("Sc", "Sm", "So") for category in categories)
    assert {unicodedata.category(c) for c in once if c.isascii()} <= {"Ll", "Nd", "Zs", "Po"}


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("\u00bd cup", "\u00bd cup"),
        ("Henry \u2163", "henry \u2173"),
        ("x\u00b2!", "x\u00b2"),
        ("\u2116 5", "\u2116 5"),
        ("Acme\u2122", "acme\u2122"),
        ("5 \u2030", "5 \u2030"),
        ("20 \u20ac, \u00a35", "20 \u20ac \u00a35"),
        ("21 \u00b0C", "21 \u00b0c"),
        ("3\u00d74", "3\u00d74"),
        ("\u2460", "\u2460"),
        ("\uff11\uff12 \uff21\uff42", "12 ab"),
        ("\ufb01re \ufb03", "fire ffi"),
        ("wait\u2026what", "wait what"),  # three dots, which are punctuation
        ("a \u2192 b \u2600\ufe0f", "a b"),  # nobody reads these aloud
    ],
)
def test_numbers_and_symbols_do_not_vanish(given_text: str, expected: str) -> None:
    assert strip_punctuation(given_text) == expected


@pytest.mark.parametrize(
    ("given_text", "language", "expected"),
    [
        ("\u0130stanbul", None, "istanbul"),
        ("\u0130stanbul", "tr", "istanbul"),
        ("i\u0307stanbul", None, "istanbul"),
        ("I\u0307STANBUL", "tr", "istanbul"),
        ("ISPARTA", "tr", "\u0131sparta"),
        ("ISPARTA", "tr-TR", "\u0131sparta"),
        ("ISPARTA", "az", "\u0131sparta"),
        ("ISPARTA", None, "isparta"),
        ("ISPARTA", "en", "isparta"),
        ("\u00cc I\u0307\u0301", "lt", "\u00ec \u00ed"),
        ("GRO\u1e9e", "de", "gro\u00df"),
        ("\u039f\u0394\u039f\u03a3 \u03c3", None, "\u03bf\u03b4\u03bf\u03c2 \u03c3"),
        ("\u03bf\u03b4\u03bf\u03c3", "el", "\u03bf\u03b4\u03bf\u03c2"),
        ("IJsland \u0132", "nl", "ijsland \u0133"),
        ("\u1c90\u1c91", "ka", "\u10d0\u10d1"),
    ],
)
def test_lower_case_keeps_a_letter_one_letter(given_text: str, language: str | None, expected: str) -> None:
    assert lower_case(given_text, language) == expected
    assert normalise(given_text, language) == expected


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("iIjJ\u0130\u0131\u03c3\u03c2\u0307\u0301\u0323'"))))
def test_no_dot_is_added_and_every_letter_stays_one(text: str) -> None:
    for language in (None, "tr", "lt"):
        once = lower_case(text, language)
        assert lower_case(once, language) == once and "i\u0307" not in once
    composed = unicodedata.normalize("NFC", text)
    assert all(len(lower_case(character)) == len(character) for character in composed if character != "\u0307"
               and unicodedata.is_normalized("NFC", character))  # fmt: skip
