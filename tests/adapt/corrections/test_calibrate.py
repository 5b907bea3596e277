"""Limits are measured on the model itself: what was not said needs larger changes than what was misheard."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from adapt.corrections.attempt import answered
from adapt.corrections.calibrate import calibrate_limits
from adapt.corrections.collect import collect_protected
from adapt.corrections.layers import correction_layer
from adapt.corrections.model_memory import ModelMemory
from adapt.corrections.support import SupportLimits, differing_characters
from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.models.checkpoint import load_model


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def known(loaded, speech):
    return answered(loaded.model, read_manifest(speech["low_validation"])[0], Loader())


@pytest.fixture(scope="module")
def protected(loaded, known):
    return collect_protected(loaded.model, correction_layer(loaded.model, "*.conv4"), known)


@pytest.mark.slow
def test_limits_are_between_the_defaults_and_repeatable(loaded, known, protected):
    limits = calibrate_limits(loaded.model, protected, 30.0, known)
    default = SupportLimits()
    assert limits.cost >= default.cost and 0 < limits.size < default.size
    assert calibrate_limits(loaded.model, protected, 30.0, known) == limits


def test_without_another_word_or_a_wrong_text_that_can_be_decoded_they_are_the_defaults(
    loaded, known, protected, monkeypatch
):
    same = [replace(one, text="abc abc") for one in known]
    assert calibrate_limits(loaded.model, protected, 30.0, same) == SupportLimits()
    monkeypatch.setattr("adapt.corrections.calibrate._measure", lambda *arguments: [])
    assert calibrate_limits(loaded.model, protected, 30.0, known) == SupportLimits()


def test_a_true_text_of_a_noisy_example_always_passes(loaded, known, protected, monkeypatch):
    sizes = iter([0.05, 0.3] * 3 + [0.06] * 5)  # wrong and true texts in turn
    monkeypatch.setattr("adapt.corrections.calibrate._measure", lambda *arguments: [SupportLimits(4.0, next(sizes))])
    limits = calibrate_limits(loaded.model, protected, 30.0, known)
    assert limits == SupportLimits(SupportLimits().cost, 0.6)


@pytest.mark.slow
def test_a_store_keeps_its_limits_and_older_stores_have_the_defaults(loaded, speech, tmp_path):
    path = tmp_path / "c.db"
    examples = read_manifest(speech["low_validation"])[0]
    made = ModelMemory.create(loaded, examples, path, "*.conv4", 30.0)
    assert made.limits.size < 1 and ModelMemory.open(loaded, path).limits == made.limits
    with closing(sqlite3.connect(path)) as file, file:
        header = json.loads(file.execute("SELECT header FROM memory").fetchone()[0])
        del header["facts"]["limits"]
        file.execute("UPDATE memory SET header = ?", (json.dumps(header),))
    assert ModelMemory.open(loaded, path).limits == SupportLimits()
    given = ModelMemory.create(loaded, examples, tmp_path / "given.db", "*.conv4", 30.0, limits=SupportLimits(3.0, 0.2))
    assert given.limits == SupportLimits(3.0, 0.2)


@pytest.mark.parametrize(
    ("one", "other", "count"), [("", "", 0), ("abc", "abc", 0), ("abc", "axc", 1), ("ab", "b cd", 4)]
)
def test_differing_characters_are_counted(one, other, count):
    assert differing_characters(one, other) == count == differing_characters(other, one)
