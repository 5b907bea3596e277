"""Normalisers remove style and nothing else, in any script."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.normalisers import Normaliser, basic, english, has_style, split_characters, without_spaces
from adapt.data.spellings import AMERICAN

HINDI = "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902"
ENGLISH = Normaliser("english")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5.", "five"),
        ("Fifteenth!", "15th"),
        ("Don\u2019t you'll, we've", "do not you will we have"),
        ("$25", "twenty five dollars"),
        ("Dr. Smith's colour", "doctor smith is color"),
        ("Well, uh, I'm gonna go (laughs).", "well i am going to go"),
        ("\uff11\uff15 \u0661\u0662", "15 12"),  # full-width and Arabic digits
        ("Organised travelling", "organized traveling"),
        ("Well\u2026 yes...", "well yes"),
    ],
)
def test_the_english_rules_equate_ways_of_writing(written, meant):
    assert ENGLISH(written) == ENGLISH(meant)


@pytest.mark.parametrize(("one", "other"), [("five", "nine"), ("do not", "do"), ("fifteen", "fifty"), ("four", "for")])
def test_other_words_stay_different(one, other):
    assert ENGLISH(one) != ENGLISH(other)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Hello, world!  [noise] (laughs)", "hello world"),
        ("\u0661\u0662\u0663 \u096c", "123 6"),
        ("\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f\u0640", "\u0645\u062d\u0645\u062f"),  # vowel signs, tatweel
        ("\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\u05e9\u05dc\u05d5\u05dd"),  # Hebrew points
        (f"{HINDI}\u0964", HINDI),
        ("\uff21\uff22\uff23", "abc"),
        ("Cafe\u0301", "caf\u00e9"),
        ("\ufb01n\u00ad", "fin"),
    ],
)  # fmt: skip
def test_the_basic_rules_in_many_scripts(written, plain):
    assert basic(written) == plain == basic(plain)


def test_lower_case_follows_the_language():
    assert basic("I\u0130", "tr") == "\u0131i" and basic("I\u0130") == "ii"
    assert basic("\u039f\u0394\u039f\u03a3.") == basic("\u03bf\u03b4\u03bf\u03c2")


@given(st.text(max_size=30))
def test_basic_is_idempotent_and_keeps_letters_with_their_marks(text):
    once = basic(text)
    assert basic(once) == once
    assert not any(unicodedata.category(character)[0] in "PS" for character in once)


@given(st.text(alphabet="ab c.,'1-", min_size=1, max_size=20).filter(str.strip))
def test_no_text_becomes_empty(text):
    assert ENGLISH(text) and Normaliser("basic")(text)


@pytest.mark.parametrize("text", ["Hmm.", "(laughs)", "uh", "..."])
def test_a_text_of_style_alone_stays(text):
    """Otherwise its reference would have no words."""
    assert ENGLISH(text) == text.lower()


def test_auto_takes_the_rules_of_the_language():
    auto = Normaliser("auto", language="en")
    assert auto("five", "de") == "five" and auto("five", "en-GB") == auto("five") == "5"
    assert Normaliser("auto")("five") == "five" and auto.rules([None, "de"]) == ("basic", "english")


def test_the_spellings_of_the_model_are_used():
    assert Normaliser("english", None, (("gaol", "jail"),))("The gaol's colour") == "the jail is colour"
    assert Normaliser("english")("colour") == "color"
    assert not {*AMERICAN} & {*AMERICAN.values()} - {"practice", "license"}


@pytest.mark.parametrize("text", ["15", "a, b", "10 %", "\u4f60\u3002", "\u0661"])
def test_style_is_seen(text):
    assert has_style(text)
    assert not has_style("it's well-known \u00e9 \u0939\u093f")


def test_characters_of_scripts_without_spaces_are_words():
    assert split_characters("\u4f60\u597d iPhone 15") == "\u4f60 \u597d iPhone 15"
    thai = "\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48"  # two letters, each with marks
    assert split_characters(thai).split() == [thai[:3], thai[3:]]
    for spaced in ("\u00e0 b", "\ud55c\uad6d \uc5b4"):
        assert split_characters(spaced) == spaced
    assert without_spaces("zh-TW") and without_spaces("Thai") and not without_spaces("ko") and not without_spaces(None)


@given(st.text(max_size=20))
def test_splitting_only_adds_spaces(text):
    assert split_characters(text).replace(" ", "") == "".join(text.split()) or text.isascii()


def test_english_equals_transformers_own():
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    text = "Mr. O'Brien's 3rd visit cost \u00a35.50, wasn't it?"
    assert english(text, (("a", "b"),)) == " ".join(EnglishTextNormalizer({"a": "b"})(text).split())
