"""From a config node to the object it names: the only place that calls Hydra's `instantiate`."""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import unwrap
from traceback import extract_tb
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from adapt.errors import InputError


def build(node: Any, **extra: Any) -> Any:
    """Call what `node._target_` names, with the node's other keys and `extra` as arguments.

    Raises:
        InputError: as the called function did (Hydra hides it in an error of its own), an argument that it does not
            take, or one of another type than its signature says; there is no such function, or the module that holds it
            cannot be imported.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if not isinstance(node, Mapping):
        raise InputError(f"{node!r} stands where several options belong. Give one of these, as cache.use=off.")
    _check_types(node)
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        located = re.search(r"locating target '([^']*)'", str(error))
        if located is not None:  # of a node within this one, maybe
            raise _unlocated(located[1]) from error
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause from None
            if isinstance(cause, TypeError):
                raise InputError(f"{node.get('_target_')}: {cause}.") from error
            cause = cause.__cause__
        raise


def _unlocated(target: str) -> InputError:
    # Hydra says the same of a module that is not there and of one that is, and fails while it is imported.
    parts = target.split(".")
    for count in range(1, len(parts) + 1 if all(parts) else 1):
        module = ".".join(parts[:count])
        try:
            import_module(module)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                break
            said = f"{type(error).__name__}: {error}"
            if not isinstance(error, SyntaxError):  # that says itself where it is
                last = [frame for frame in extract_tb(error.__traceback__) if "importlib" not in frame.filename][-1]
                said += f", {last.filename}:{last.lineno}"
            return InputError(
                f"'{target}' cannot be had: its module '{module}' is there, and fails while it is imported ({said}). "
                "Mend it, or install what it needs."
            )
    return InputError(f"There is no '{target}'. A _target_ is a function's full dotted path.")


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _check_types(node: Mapping) -> None:
    """Raise InputError for an option that is no number, or neither true nor false, or no name, where it must be one.

    Of our own functions, by their annotations; other types than these are for the functions to check.
    """
    from hydra.utils import get_object

    target = node.get("_target_")
    if not str(target).startswith("adapt."):
        return
    try:
        called = unwrap(get_object(target))
        hints = get_type_hints(called.__init__ if isinstance(called, type) else called)
    except Exception:  # said by `instantiate`, with the cause
        return
    for key in node.keys() & hints.keys():
        value, hint = node.get(key), hints[key]
        kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        if value is None and NoneType in kinds:
            continue
        or_null = " or null" * (NoneType in kinds)
        kinds.discard(NoneType)
        kind = float if float in kinds else next(iter(kinds))
        wanted = None
        if kinds <= _KINDS.keys() and not _is(value, kind):
            wanted = _KINDS[kind]
        elif kinds == {str, Sequence[str]} and isinstance(value, (bool, int, float)):
            wanted = "a name or a list of names"
        if wanted:
            named = node._get_full_key(key) if hasattr(node, "_get_full_key") else key
            raise InputError(f"{named} is {wanted}{or_null}; got {value!r}.")


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else int)


def build_splits(data: Any) -> Any:
    """Build the splits that a command's `data` node names; `on_error` and `group_by` there are the command's own.

    Raises:
        InputError: as `build` and `grouping`.
    """
    _check_types(data)
    grouping(data)  # it is used at the end, and told before anything is trained
    return build({key: value for key, value in data.items() if key not in ("on_error", "group_by")})


def grouping(data: Any) -> list[str]:
    """The keys that a command's `data` node groups error rates by: one, or a list of them. Raises InputError."""
    given = data.get("group_by")
    keys = given if isinstance(given, Sequence) and not isinstance(given, str) else [] if given is None else [given]
    if not all(isinstance(key, str) for key in keys):
        raise InputError(f"data.group_by is a key of the data, as accent, a list of these, or null; got {given}.")
    return list(keys)
