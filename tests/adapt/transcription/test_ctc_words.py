"""Words of CTC output: forced alignment finds the times at which they were written."""

import torch

from adapt.models.wav2letter import wav2letter_small
from adapt.transcription.ctc_words import ctc_words, units_of
from adapt.transcription.long_alignment import align_long

MODEL = wav2letter_small().model


def output(text: str, steps_each: int = 3, sure: float = 0.9) -> torch.Tensor:
    """Log-probabilities that spell a text: each character for one step, then blanks."""
    units = len(MODEL.vocabulary)
    path = [unit for own in MODEL.encode(text) for unit in [own] + [MODEL.blank] * (steps_each - 1)]
    probabilities = torch.full((len(path), units), (1 - sure) / (units - 1))
    probabilities[torch.arange(len(path)), torch.tensor(path)] = sure
    return probabilities.log()


def test_words_are_where_they_were_written():
    words = ctc_words(MODEL, output("ab cd"), "ab cd", seconds=15.0)
    assert [word.text for word in words] == ["ab", "cd"]
    assert [(word.start, word.end) for word in words] == [(0.0, 4.0), (9.0, 13.0)]  # a step is 1 s
    assert all(abs(word.confidence - 0.9) < 1e-6 for word in words)


def test_a_word_is_as_sure_as_its_least_likely_character():
    log_probs = output("ab cd")
    log_probs[12, :] = output("ab cd", sure=0.4)[12]
    first, second = ctc_words(MODEL, log_probs, "ab cd", 15.0)
    assert abs(first.confidence - 0.9) < 1e-6 and abs(second.confidence - 0.4) < 1e-6


def test_what_cannot_be_aligned_has_no_confidence():
    for text, log_probs in (("ab 7", output("ab cd")), ("abcdef abcdef", output("ab"))):
        words = ctc_words(MODEL, log_probs, text, 6.0)
        assert [word.confidence for word in words] == [None, None]
        assert (words[0].start, words[0].end, words[1].end) == (0.0, 3.0, 6.0)
    assert ctc_words(MODEL, output("ab"), "", 6.0) == ()


def test_a_long_text_is_aligned_in_stretches():
    """The same steps as at once, although each stretch holds a fifth of the text."""
    text = " ".join(["hello", "world", "again"] * 10)
    parts, log_probs = units_of(MODEL, text), output(text)
    found = align_long(log_probs, parts, MODEL.blank, stretch=110)
    assert found == align_long(log_probs, parts, MODEL.blank, stretch=10_000)
    place = 0
    for (_, units), steps in zip(parts, found, strict=True):
        assert steps is not None and abs(steps[0] - place) <= 2
        place += 3 * len(units)


def test_a_text_that_goes_on_after_the_audio_has_no_place_for_its_end():
    parts = units_of(MODEL, "ab cd " + "x" * 60)
    found = align_long(output("ab cd"), parts, MODEL.blank)
    assert found[0] is not None and found[-1] is None
