"""Output overrides are found by the normalised answer, under which corrections store them."""

from dataclasses import replace

from adapt.corrections.overrides import overriding
from adapt.models.checkpoint import load_model
from adapt.models.task import dictation


def test_an_answer_with_capitals_is_replaced(base):
    model = load_model(str(base)).model
    model.task = replace(dictation, decode=lambda model, batch: ["Hello  World", "hello there"])
    with overriding(model, {"hello world": "yellow world"}):
        assert model.task.decode(model, None) == ["yellow world", "hello there"]
    assert model.task.decode(model, None) == ["Hello  World", "hello there"]
