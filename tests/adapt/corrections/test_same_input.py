"""A protected example that is corrected itself is found by its file, its sentence or its audio, and left out."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from adapt.corrections.same_input import same_input, without_inputs
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.models.checkpoint import load_model


@pytest.fixture(scope="module")
def model():
    return load_model("us-english").model


@pytest.fixture
def sound(tmp_path: Path):
    def make(name: str, seed: int, seconds: float = 0.5) -> Utterance:
        draw = np.random.default_rng(seed)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, draw.normal(0, 0.1, int(16_000 * seconds)), 16_000, subtype="PCM_16")
        return Utterance(tmp_path / name, "")

    return make


def test_the_same_audio_under_another_name_is_the_same_input(model, sound):
    one, copy, other, longer = sound("a.wav", 1), sound("b/c.wav", 1), sound("d.wav", 2), sound("e.wav", 1, 0.7)
    assert same_input(model, one, one) and same_input(model, one, copy)
    assert not same_input(model, one, other) and not same_input(model, one, longer)
    assert without_inputs(model, [other, copy, longer], [one]) == [other, longer]


def test_parts_of_a_file_are_the_same_input_where_they_overlap(model, sound):
    path = sound("a.wav", 1, 2.0).audio_filepath
    whole, first, second = Utterance(path, ""), Utterance(path, "", 1.0), Utterance(path, "", 1.0, 1.0)
    assert same_input(model, whole, first) and same_input(model, whole, second)
    assert not same_input(model, first, second)


def test_a_missing_file_is_another_input(model, sound, tmp_path):
    assert not same_input(model, sound("a.wav", 1), Utterance(tmp_path / "none.wav", ""))


def test_sentences_are_compared_by_their_words(model):
    assert same_input(model, Pair("It is  cold.", ""), Pair(" It is cold.", "Es ist kalt."))
    assert not same_input(model, Pair("It is cold.", ""), Pair("It is hot.", ""))
