"""Training texts in the model's own writing: the words of the references, the style of its answers."""

from dataclasses import replace

import numpy as np
import pytest
from small_hf import save_whisper

from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.training.own_writing import check_written_like, in_own_writing

SAID = ("it is five", "no d<g")


def utterances(texts):
    return tuple(Recording(np.zeros(8_000, np.float32), 16_000, text) for text in texts)


@pytest.fixture
def whisper(tmp_path, monkeypatch):
    """A Whisper that hears the words, and cannot write brackets."""
    model = load_model(str(save_whisper(tmp_path / "w", languages=(), texts=("It's 5. No cat!",)))).model
    answers = dict(zip(SAID, ("It's 5.", "No cat!"), strict=True))
    decode = replace(model.task, decode=lambda _, batch: [answers[one.text] for one in batch.examples])
    monkeypatch.setattr(model, "task", decode)
    return model


def test_texts_to_learn_are_rewritten_and_test_texts_are_not(whisper):
    splits = Splits(train=utterances(SAID[:1]), validation=utterances(SAID[:1]), test=utterances(SAID[:1]))
    check_written_like(whisper, splits, "model")
    found = in_own_writing(whisper, splits, Loader())
    assert [part[0].text for part in (found.train, found.validation, found.test)] == ["It's 5.", "It's 5.", SAID[0]]


def test_what_it_cannot_write_is_left(whisper):
    (left,) = in_own_writing(whisper, Splits(train=utterances(SAID[1:])), Loader()).train
    assert left.text == SAID[1]


def test_models_without_writing_of_their_own_are_refused(base):
    letters = load_model(str(base)).model
    check_written_like(letters, Splits(train=utterances(["ab"])), "references")
    with pytest.raises(InputError, match="writes none, or translates"):
        check_written_like(letters, Splits(train=utterances(["ab"])), "model")
    with pytest.raises(InputError, match="written_like"):
        check_written_like(letters, Splits(train=utterances(["ab"])), "loud")
