"""A few inputs of each kind; `scripts/fuzz` tries many."""

import logging

import pytest

from adapt.errors import InputError
from fuzzing.frame import Case, Wrong, all_kinds, attempt, fuzz

COUNT = 20
COUNTS = {"manifests": 60, "pairs": 60, "recordings": 120}  # of kinds with many formats


@pytest.fixture(autouse=True)
def quiet():
    """Kinds that train lower the level of our log messages. Later tests in this process read them."""
    level = logging.getLogger("adapt").level
    yield
    logging.getLogger("adapt").setLevel(level)


@pytest.mark.slow
@pytest.mark.parametrize("kind", all_kinds())
@pytest.mark.filterwarnings("ignore")  # what libraries say about damaged files is not what is tested
def test_each_input_is_read_or_refused_with_a_sentence(kind):
    count = COUNTS.get(kind, COUNT)
    tally = fuzz(kind, count)
    assert tally.tried == count and not tally.faults, tally.faults


def refuse(message):
    raise InputError(message)


def find_wrong():
    raise Wrong("weights differ")


@pytest.mark.slow  # one waits until its time is over
@pytest.mark.parametrize(
    ("read", "outcome", "said"),
    [
        (lambda: 1, "accepted", ""),
        (lambda: refuse("'a.json' is not valid JSON."), "refused", "valid JSON"),
        (lambda: refuse("'seed'"), "traceback", "seed"),
        (lambda: {}["seed"], "traceback", "KeyError"),
        (lambda: [0] * 10**10, "traceback", "MemoryError"),
        (find_wrong, "wrong", "weights differ"),
        (lambda: [None for _ in iter(int, 1)], "hang", "0.3 s"),
    ],
)
def test_the_frame_tells_outcomes_apart(read, outcome, said):
    found, message = attempt(Case("", read), 0.3, 2.0)
    assert found == outcome and said in message
