"""Threads that answer with and without corrections on one model, and copies of a model with corrections."""

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from adapt.corrections.model_memory import ModelMemory, corrected
from adapt.corrections.overrides import overriding
from adapt.data.loader import Loader
from adapt.data.pairs import Pair
from adapt.data.synthetic.domains import domains
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from interventions.intervene import intervene

WANTED = Pair("Will it be foggy tomorrow?", "Ist es morgen neblig?")


@pytest.fixture
def loaded():
    return load_model("weather-en-de")


def answer(model):
    return decode_examples(model, model.task, [WANTED], Loader())


def test_overrides_hold_in_their_thread_and_not_in_copies(loaded):
    model = loaded.model
    (plain,), task = answer(model), model.task
    start = Barrier(3)

    def overridden(text):
        start.wait()
        found = []
        for _ in range(3):
            with overriding(model, {plain: text} if text else {}):
                found += answer(model)
        return found

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(overridden, ("one", "two", None)))
    assert found == [["one"] * 3, ["two"] * 3, [plain] * 3] and model.task is task
    with overriding(model, {plain: "one"}):
        twin = copy.deepcopy(model)
        assert answer(model) == ["one"] and answer(twin) == [plain]
        with overriding(model, {"one": "two"}):
            assert answer(model) == ["two"]
    assert answer(model) == answer(twin) == [plain] and model.task is task


@pytest.mark.slow
def test_corrections_hold_in_their_thread_and_not_in_copies(loaded, tmp_path):
    model, path = loaded.model, tmp_path / "c.db"
    protected = domains(train=0, validation=0, test=0, source_test=0, source_train=120).source_train
    (before,) = answer(model)
    memory = ModelMemory.create(loaded, protected, path)
    assert memory.correct(WANTED).fixed
    start = Barrier(2)

    def with_corrections():
        start.wait()
        with corrected(loaded, str(path)):
            return answer(model) + answer(model)

    def without():
        start.wait()
        with intervene(model):
            return answer(model) + answer(model)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(with_corrections), pool.submit(without)
        assert one.result() == [WANTED.target] * 2 and other.result() == [before] * 2
    with corrected(loaded, str(path)):
        twin = copy.deepcopy(model)
        assert answer(twin) == [before] and answer(model) == [WANTED.target]
    assert answer(twin) == answer(model) == [before]
