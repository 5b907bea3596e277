"""What is said of an outcome: style alone is nothing to fix, and the option that asks for it is named."""

from dataclasses import replace

import pytest

from adapt.corrections.correct import correct_examples
from adapt.corrections.outcome import Outcome, format_outcome
from adapt.data.manifest import Utterance
from adapt.errors import InputError


def test_style_alone_names_the_option():
    outcome = Outcome(None, "it is five.", "it's 5", "it's 5", style=True)
    text = format_outcome(outcome, Utterance("a.wav", "It is five."), "utterance")
    assert "differs from the model's answer 'it's 5' in style only" in text and "normalise=none corrects" in text


@pytest.mark.parametrize(("given", "case"), [("Ada Bea", True), ("ada bea", False)])
def test_case_is_never_compared(given, case):
    text = format_outcome(Outcome(None, "ada bea", "ada bea", "ada bea"), Utterance("a.wav", given), "utterance")
    assert text.startswith(f"'{given}' is already the model's answer.")
    assert ("Upper and lower case are not compared." in text) == case


def test_an_unknown_normaliser_is_refused_before_anything_is_read():
    with pytest.raises(InputError, match="normalise"):
        correct_examples(None, [], normalise="loud")  # pyright: ignore[reportArgumentType]


def test_a_refused_text_is_shown_as_it_was_given():
    outcome = Outcome(None, "ada bea", "", "", "the input does not support it")
    assert format_outcome(outcome, Utterance("a.wav", "Ada  Bea!"), "utterance").startswith("Refused 'Ada Bea!': ")


def test_a_recording_that_is_protected_itself_is_named():
    outcome = Outcome(1, "ada", "a", "ada", checked=19, changed=1, itself=True)
    said = format_outcome(outcome, Utterance("a.wav", "ada"), "utterance")
    assert "1 of 19 protected utterances have another answer now" in said
    assert "this utterance is among the protected ones, and was left out of these" in said
    assert "itself" not in format_outcome(replace(outcome, itself=False), Utterance("a.wav", "ada"), "utterance")
