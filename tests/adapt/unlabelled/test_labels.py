"""Pseudo-labels: what is left out, and in which order the rest is trusted."""

import pytest

from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.unlabelled.labels import WEIGHTS, Filters, choose
from adapt.unlabelled.reading import Reading, similarity


@pytest.fixture(scope="module")
def model(base):
    return load_model(str(base)).model


@pytest.fixture(scope="module")
def examples(speech):
    return read_manifest(speech["high_test"])[0]


def kept(model, examples, readings, agreements, **filters):
    found = choose(model, examples[: len(readings)], readings, agreements, Filters(**filters))
    return [one.text for one in found.examples], found.left_out


def test_each_filter_leaves_out_what_it_names(model, examples):
    texts = ["abc abc", "", "ab ab ab ab ab", "a", "abd cde", "abe dce", "abcd abcd abcd abcd abcd abcd abc d"]
    readings = [Reading(text, 0.9) for text in texts]
    found, left_out = kept(model, examples, readings, [1, 1, 1, 1, 0.5, 1, 1], keep=1, agreement=0.6, rate=2)
    assert found == ["abc abc", "abe dce"]
    expected = {"empty": 1, "repeats itself": 2, "too long or too short": 1, "too little agreement": 1}
    assert left_out == expected


def test_the_most_trusted_are_kept_in_their_order(model, examples):
    readings = [Reading("abc dea", confidence) for confidence in (0.2, 0.9, 0.5, 0.8)]
    readings = [Reading(f"abc de{letter}", r.confidence) for letter, r in zip("abcd", readings, strict=True)]
    assert kept(model, examples, readings, [1.0] * 4, keep=0.5) == (["abc deb", "abc ded"], {"least trusted": 2})
    # With a word list, the text of known words is the label, and a small gap is trusted.
    worded = [Reading("abc dee", 0.9, f"abc de{letter}", gap) for letter, gap in zip("abcd", (3, 1, 2, 0), strict=True)]
    assert kept(model, examples, worded, [1.0] * 4, keep=0.5)[0] == ["abc deb", "abc ded"]


def test_the_trust_in_tokens_goes_with_the_example(model, examples):
    found = choose(model, examples[:1], [Reading("abc dea", 0.9, trust=(1.0, 0.5))], [1.0], Filters(keep=1))
    assert found.examples[0].extra[WEIGHTS] == (1.0, 0.5)


def test_similarity_of_nothing_is_zero():
    assert (similarity("", ""), similarity("ab", ""), similarity("ab", "ab")) == (0, 0, 1)


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"agreement": 2}, {"rate": 0.5}])
def test_wrong_filters_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Filters(**wrong)
