"""Training keeps to `loader.memory`: it says what a batch takes, and a resumed run gets the same batches."""

import logging
from dataclasses import replace

import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.splits import read_splits
from adapt.errors import InputError
from adapt.models.batch_memory import within_budget
from adapt.models.checkpoint import load_model
from adapt.training.fine_tune import fine_tune
from adapt.tuning.layers import head
from adapt.unlabelled.reading import read

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def splits(speech):
    found = read_splits(train=speech["high_train"], validation=speech["high_validation"])
    return replace(found, train=found.train[:6], validation=found.validation[:3])


def said(caplog):
    return [message for message in caplog.messages if message.startswith("Batches of up to")]


def test_a_budget_makes_smaller_batches_and_is_said_once(loaded, splits, caplog):
    caplog.set_level(logging.INFO)
    whole = fine_tune(loaded, splits, head, epochs=1, loader=Loader())
    (message,) = said(caplog)
    assert message.startswith("Batches of up to 6 utterances, about")
    taken, unit = message.split("about ")[1].split()[:2]
    gigabytes = float(taken) * {"kB": 1e-6, "MB": 1e-3}[unit]
    caplog.clear()
    less = fine_tune(loaded, splits, head, epochs=1, loader=Loader(memory=0.6 * gigabytes))
    (message,) = said(caplog)
    assert message.split()[4] in {"2", "3"}
    assert less.loaded.fingerprint != whole.loaded.fingerprint
    # Saying what a batch takes changes nothing: a budget that is never reached leaves the result as it is.
    again = fine_tune(loaded, splits, head, epochs=1, loader=Loader(memory=100))
    assert again.loaded.fingerprint == whole.loaded.fingerprint


def test_resumed_with_the_same_budget_only(loaded, splits, tmp_path):
    loader = Loader(memory=0.002)
    once = fine_tune(loaded, splits, head, epochs=1, folder=tmp_path / "run", loader=loader)
    again = fine_tune(loaded, splits, head, epochs=1, folder=tmp_path / "run", loader=loader, resume=True)
    assert again.loaded.fingerprint == once.loaded.fingerprint
    with pytest.raises(InputError, match=r"loader.memory=0.002, not 1"):
        options = {"epochs": 1, "folder": tmp_path / "run", "resume": True}
        fine_tune(loaded, splits, head, loader=Loader(memory=1), **options)


def test_an_utterance_that_does_not_fit_is_refused_before_training(loaded, splits):
    with pytest.raises(InputError, match="The longest utterance .* does not fit into memory even by itself"):
        fine_tune(loaded, splits, head, epochs=1, loader=Loader(memory=1e-6))


def test_a_budget_is_the_same_where_nothing_has_gradients(loaded, splits):
    """Transcribing and reading without labels measure a batch inside of their inference mode."""
    loader = Loader(memory=0.003)
    outside = within_budget(loaded.model, splits.train, loader).bound(loaded.model.reader)
    with torch.inference_mode():
        inside = within_budget(loaded.model, splits.train, loader).bound(loaded.model.reader)
    assert inside == outside < loader.bound(loaded.model.reader)
    assert len(read(loaded.model, splits.train, loader)) == len(splits.train)
