"""From config nodes to objects: errors name the option, whatever they are raised by."""

import copy
from functools import partial
from inspect import signature

import pytest
from omegaconf import OmegaConf

from adapt.build import build, build_splits
from adapt.errors import InputError


def measure(loaded, group_by: str = "accent", problem: str = "group_by must be a key, got 3."):
    raise InputError(problem)


def name(text: str) -> str:
    return text


class Thing:
    def __init__(self, size):
        raise InputError(f"size must be small, got {size}.")


def node(target, **options):
    return {"_target_": f"{__name__}.{target.__name__}", **options}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or __import__(__name__))


def test_an_error_on_an_argument_names_the_option():
    cfg = OmegaConf.create({"measure": node(measure, loaded=1), "a": {"b": node(Thing, size=9)}})
    with pytest.raises(InputError, match=r"^measure\.group_by must be a key, got 3\.$"):
        build(cfg.measure)
    with pytest.raises(InputError, match=r"^a\.b\.size must be small, got 9\.$"):
        build(cfg.a.b)


def test_so_does_the_later_call_of_a_partial():
    cfg = OmegaConf.create({"measure": node(measure, _partial_=True, group_by="age")})
    built = build(cfg.measure)
    assert isinstance(built, partial) and built.keywords == {"group_by": "age"} and built.func.__name__ == "measure"
    assert "loaded" in signature(built).parameters
    for called in (built, copy.deepcopy(built), partial(built, problem="group_by must be a key, got 3.")):
        with pytest.raises(InputError, match=r"^measure\.group_by must be a key, got 3\.$"):
            called(1)


@pytest.mark.parametrize("problem", [
    "There is no such key.", "grouping is wrong.", "data.train: there is none.", "group_bys are wrong.", "A group_by.",
])  # fmt: skip
def test_other_errors_stay_as_they_are(problem):
    cfg = OmegaConf.create({"measure": node(measure, _partial_=True, problem=problem)})
    with pytest.raises(InputError) as caught:
        build(cfg.measure)(1)
    assert str(caught.value) == problem


def test_a_notebook_reads_the_arguments_name():
    with pytest.raises(InputError, match=r"^group_by must be a key"):
        measure(1)
    with pytest.raises(InputError, match=r"^group_by must be a key"):
        build(node(measure, loaded=1))  # a dict has no place in a config


def test_types_are_checked_by_the_signature():
    cfg = OmegaConf.create({"loader": {"_target_": "adapt.data.loader.Loader", "workers": "many"}})
    with pytest.raises(InputError, match=r"^loader\.workers must be a whole number, got 'many'\.$"):
        build(cfg.loader)


def test_data_options_are_named_below_data():
    with pytest.raises(InputError, match=r"^data\.group_by must be a key of the data"):
        build_splits(OmegaConf.create({"data": {"group_by": 3}}).data)
