"""Encoding texts as output units, and decoding CTC paths."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.text import normalise
from adapt.errors import InputError
from adapt.models.labels import ENGLISH, Labels

ABC = Labels.of(" abc")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([], ""),
        ([0, 0, 0], ""),
        ([2, 2, 2], "a"),
        ([2, 0, 2], "aa"),
        ([0, 2, 2, 0, 0, 3, 3, 0], "ab"),
        ([2, 3, 2], "aba"),
        ([2, 1, 3], "a b"),
        ([1, 2, 1, 0, 1, 3, 1], "a b"),  # a text has no spaces at its ends, and no double spaces
    ],
)
def test_decode(path, text):
    assert ABC.decode(path) == text


def test_decode_with_the_blank_elsewhere():
    labels = Labels(("a", "b", ""), 2)
    assert labels.decode([0, 0, 2, 0, 1, 1, 2]) == "aab"
    assert labels.decode([2, 2]) == ""
    assert labels.encode("ab") == [0, 1]


@st.composite
def alphabets(draw):
    characters = draw(st.lists(st.sampled_from("abcdefgh'\u00e9\u0444\u3042"), min_size=1, unique=True))
    blank = draw(st.integers(0, len(characters)))
    return Labels((*characters[:blank], "", *characters[blank:]), blank)


@given(alphabets(), st.data())
def test_any_path_of_a_text_decodes_to_it(labels, data):
    text = data.draw(st.text(st.sampled_from([c for c in labels.characters if c]), max_size=12))
    units = labels.encode(text)
    assert len(units) == len(normalise(text)) and labels.blank not in units
    path = [labels.blank] * data.draw(st.integers(0, 2))
    for unit, following in itertools.zip_longest(units, units[1:]):
        path += [unit] * data.draw(st.integers(1, 3))
        path += [labels.blank] * data.draw(st.integers(int(unit == following), 2))
    assert labels.decode(path) == normalise(text)


@given(st.text())
def test_normalise_is_idempotent(text):
    assert normalise(normalise(text)) == normalise(text)


def test_normalise_composes_characters():
    """Lower-casing this character yields a letter and two marks in an order that differs from NFC."""
    once = normalise("\u0130\u0327")
    assert normalise(once) == once


def test_texts_are_normalised_before_they_are_encoded():
    labels = Labels.of(" a\u00e9")
    assert labels.encode(" A \n E\u0301  ") == labels.encode("a \u00e9") == [2, 1, 3]


def test_missing_is_sorted_without_repetition():
    assert ABC.missing("zAbxxz c!") == ["!", "x", "z"]
    assert ABC.missing("") == []


def test_encode_names_what_is_missing():
    with pytest.raises(InputError, match="'x', 'z'.*' ', 'a', 'b', 'c'"):
        ABC.encode("zax")


def test_extended_keeps_the_order_and_appends_sorted():
    labels = Labels(("b", "", "a"), 1)
    longer = labels.extended(["za", "BYZ"])
    assert longer == Labels(("b", "", "a", "y", "z"), 1)
    assert labels.extended(["ab"]) == labels


def test_of_puts_the_blank_first():
    labels = Labels.of(ENGLISH)
    assert labels.characters[0] == "" and labels.blank == 0 and len(labels) == 29
    assert Labels.of(["a", "b"]) == Labels.of("ab")


@pytest.mark.parametrize("characters", [("", "a", "a"), ("", "ab"), ("", "a", ""), ("", "", "a")])
def test_repeated_and_long_labels_are_errors(characters):
    with pytest.raises(InputError, match="single lower-case characters|Each label must occur once"):
        Labels(characters)


@pytest.mark.parametrize(
    ("characters", "blank"), [(("-", "a"), 0), (("a", "b"), -1), (("a", "b"), 2), ((), 0), (("", "a"), 1)]
)
def test_a_missing_blank_is_an_error(characters, blank):
    """Otherwise '-' would count as a character, and encoding it would fail later."""
    with pytest.raises(InputError):
        Labels(characters, blank)


@pytest.mark.parametrize("characters", [ENGLISH, "a\u00e9\u0444 ", "ABC", "a\u00a0b"])
def test_every_unit_can_be_trained(characters):
    """Texts are lower-cased, so a unit for 'A' could never be trained; such labels are errors."""
    try:
        labels = Labels.of(characters)
    except InputError:
        return
    for unit, character in enumerate(labels.characters):
        if character:
            assert unit in labels.encode(f"a{character}a")
