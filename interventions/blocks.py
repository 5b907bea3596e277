"""Whom a block edits: the calls of the thread or asyncio task that opened it.

Two threads can each open a block on one model, and each gets the results of its own. A thread without a block on a
model that another thread edits gets an error, because it may expect either result: it may help the thread with the
block, or know nothing of it. Contexts (PEP 567) tell the callers apart, so `asyncio.to_thread` belongs to its task.
"""

# torch does not document how to ask whether a backward pass is running in this thread.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pickle import PicklingError
from typing import Any, NoReturn

import torch
from torch import nn
from torch.compiler import is_dynamo_compiling
from torch.utils.hooks import RemovableHandle

from interventions.hooks import forget_compiled

# torch numbers handles without a lock, so two threads that register hooks at the same time could get the same number.
registering = threading.RLock()


class OtherThreadError(RuntimeError):
    """A model was called from a thread or task without a block, while a block of another one edits or reads it."""


class Block:
    """A `with` block that edits or reads a model, in the context that opened it."""

    __slots__ = ("_model", "_modules", "_what")

    def __init__(self, model: nn.Module, what: str) -> None:
        self._model, self._what = model, what
        self._modules: set[nn.Module] | None = None

    def open(self) -> None:
        """Open the block in the current context."""
        open_blocks.set((*open_blocks.get(), self))
        _all.append(self)

    def close(self) -> None:
        """Close the block."""
        open_blocks.set(tuple(block for block in open_blocks.get() if block is not self))
        _all.remove(self)

    def hook(self, module: nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function as a hook of a module, for the calls that the block applies to."""

        def run(module: nn.Module, *arguments: Any) -> Any:
            # Compiled code cannot tell threads apart.
            if is_dynamo_compiling() or self in open_blocks.get() or self.applies_elsewhere(module):
                return function(module, *arguments)
            return None

        return temporary(module, run)

    def covers(self, module: nn.Module) -> bool:
        """Return whether a module is a part of the block's model."""
        if self._modules is None or module not in self._modules:
            self._modules = set(self._model.modules())
        return module in self._modules

    def applies_elsewhere(self, module: nn.Module) -> bool:
        """Return whether the block applies to a call of a module from a context in which it is not open.

        It does in a backward pass, whose threads have no context: a checkpointed module runs again there.

        Raises:
            OtherThreadError: If it is unknown whether the caller expects the block to apply.
        """
        if torch._C._current_graph_task_id() != -1:
            if sum(block.covers(module) for block in _all) == 1:
                return True
        elif any(block.covers(module) for block in open_blocks.get() if block in _all):
            return False
        raise OtherThreadError(
            f"This {type(module).__name__} was called from a thread or task that has no block of its own, while "
            f"another one has opened `with {self._what}(model, ...)`. Open a block in each thread that calls the model "
            "(`with intervene(model):` for the model as it is), or use Edits, which apply in every thread."
        )


@contextmanager
def hooked(
    model: nn.Module, what: str, hooks: Sequence[tuple[nn.Module, Callable[..., Any]]]
) -> Generator[None, None, None]:
    """Register forward hooks for a block, for the calls of this thread or asyncio task.

    Args:
        model: the model that the modules belong to.
        what: the name of the function that opens the block, for messages.
        hooks: modules, each with its hook.
    """
    handles: list[RemovableHandle] = []
    forget_compiled()
    block = Block(model, what)
    block.open()
    try:
        for module, function in hooks:
            with registering:
                handles.append(module.register_forward_hook(block.hook(module, function)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        block.close()


open_blocks: ContextVar[tuple[Block, ...]] = ContextVar("open_blocks", default=())
_all: list[Block] = []  # of all contexts


class TemporaryHook:
    """A function to register as a hook of a module, by its method `run`, which copies of the module do not keep.

    A hook belongs to the `with` block that registered it, which cannot remove it from a copy.
    """

    __slots__ = ("_module", "_function")

    def __init__(self, module: nn.Module, function: Callable[..., Any] | None) -> None:
        self._module, self._function = module, function

    def run(self, *arguments: Any) -> Any:
        """Call the function."""
        return None if self._function is None else self._function(*arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TemporaryHook":
        copied = TemporaryHook(self._module, None)
        remove_after_copying(self._module, copied, memo)
        return copied

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse_pickling()


def temporary(module: nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as a hook that copies of the module do not keep."""
    return TemporaryHook(module, function).run


def remove_after_copying(module: nn.Module, copied: Any, memo: dict[int, Any]) -> None:
    """Remove the copy of a hook from the copy of its module as soon as `copy.deepcopy` has finished.

    Until then the hook must do nothing. `copy.deepcopy` deletes its memo at the end, and so the object that removes.

    Args:
        module: the module that has the hook.
        copied: the copy of the object whose method is the hook.
        memo: the argument of `__deepcopy__`.
    """
    memo.setdefault(id(_Remover), _Remover()).copies.append((memo.get(id(module)), copied))


def refuse_pickling() -> NoReturn:
    """Raise the error for pickling a model within a block."""
    raise PicklingError(
        "A model cannot be pickled while interventions are attached to it, because its copy would not have them. Leave "
        "the `with` block first, or remove the Edits."
    )


class _Remover:
    """Removes copies of hooks from copies of modules when it is deleted."""

    __slots__ = ("copies",)

    def __init__(self) -> None:
        self.copies: list[tuple[nn.Module | None, Any]] = []

    def __del__(self) -> None:
        for module, copied in self.copies:
            for table, options in _TABLES if module is not None else ():
                hooks = getattr(module, table)
                for key in [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is copied]:
                    del hooks[key]
                    for option in options:
                        getattr(module, option).pop(key, None)


_TABLES = (
    ("_forward_hooks", ("_forward_hooks_with_kwargs", "_forward_hooks_always_called")),
    ("_forward_pre_hooks", ("_forward_pre_hooks_with_kwargs",)),
)
