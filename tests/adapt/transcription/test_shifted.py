"""A piece that is read at several starts: the answer of least expected error, with its own times."""

import pytest
import torch

from adapt.data.loader import Batch
from adapt.transcription.shifted import STARTS, read_shifted
from adapt.transcription.transcript import Word

RATE = 1_000


def answer(batch, texts, sure):
    """Read one example: what is left of 1000 samples tells the start."""
    start = round((1_000 - int(batch.lengths[0])) / RATE, 3)
    number = min(range(len(STARTS)), key=lambda one: abs(STARTS[one] - start))
    return [((texts[number], (Word(texts[number], 0.1, 0.2, 0.5),)), sure[number])]


def read(texts, sure, samples=1_000):
    batch = Batch(torch.zeros(1, samples), torch.tensor([samples]), [None])
    return read_shifted(lambda own: answer(own, texts, sure), batch, RATE)[0]


def test_the_answer_nearest_to_the_likely_ones_is_kept():
    texts = ["bnora"] * 4 + ["nora"] * 6 + ["ora"]
    assert read(texts, [-1.0] * 11)[0] == "nora"
    assert read(texts, [0.0] * 4 + [-9.0] * 7)[0] == "bnora"  # the others are unlikely
    assert read(["", *["nora"] * 10], [0.0] + [-0.5] * 10)[0] == "nora"


def test_times_are_those_of_the_piece():
    text, words = read(["nora"] * 11, [-1.0] * 10 + [0.0])
    assert text == "nora"
    assert words[0].start == pytest.approx(0.1 + STARTS[10])


def test_what_is_too_short_to_shift_is_read_once():
    batch = Batch(torch.zeros(1, 200), torch.tensor([200]), [None])
    calls = []
    assert read_shifted(lambda own: calls.append(own) or [(("a", ()), 0.0)], batch, RATE) == [("a", ())]
    assert len(calls) == 1
