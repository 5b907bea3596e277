"""Output overrides: answers that are replaced as a whole, in the thread or asyncio task that opened the block."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from adapt.models.model import Model
from adapt.models.task import Task

_lock = threading.Lock()
_active: ContextVar[tuple[tuple[Model, Mapping[str, str]], ...]] = ContextVar("overrides", default=())


@dataclass
class _Replaced:
    """The task of a model whose decoding looks for overrides, and the number of blocks that need it."""

    model: Model
    task: Task
    own: bool  # whether the task is an attribute of the model, and not of its class
    blocks: int = 0


_replaced: dict[int, _Replaced] = {}


@contextmanager
def overriding(model: Model, overrides: Mapping[str, str]) -> Iterator[None]:
    """Replace a model's answers in the block: each that is a key of `overrides` when it is normalised, by its value.

    Other threads, and copies of the model, keep their own answers.
    """
    if not overrides:
        yield
        return
    entry = (model, overrides)
    _replace_task(model)
    _active.set((*_active.get(), entry))
    try:
        yield
    finally:
        _active.set(tuple(one for one in _active.get() if one is not entry))
        _restore_task(model)


def _replace_task(model: Model) -> None:
    with _lock:
        if id(model) not in _replaced:
            _replaced[id(model)] = _Replaced(model, model.task, "task" in vars(model))
            model.task = replace(model.task, decode=partial(_decode, model.task.decode))
        _replaced[id(model)].blocks += 1


def _restore_task(model: Model) -> None:
    with _lock:
        kept = _replaced[id(model)]
        kept.blocks -= 1
        if not kept.blocks:
            del _replaced[id(model)]
            if kept.own:
                model.task = kept.task
            else:
                vars(model).pop("task", None)


def overridden(model: Model, text: str) -> str:
    """Return what replaces an answer of a model in the blocks that are open, or the answer itself."""
    for one, overrides in _active.get():
        if one is model:
            text = overrides.get(one.task.normalise(text), text)
    return text


def _decode(decode: Callable[[Any, Any], list[str]], model: Model, batch: Any) -> list[str]:
    return [overridden(model, text) for text in decode(model, batch)]
