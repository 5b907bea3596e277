"""Build the object that a config node describes. No other module calls Hydra's `instantiate`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from inspect import Parameter, signature, unwrap
from traceback import extract_tb
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from adapt.errors import InputError


def build(node: Any, path: str | None = None, **extra: Any) -> Any:
    """Call what `node._target_` names, with the node's other keys and `extra` as arguments.

    If an InputError of the called function begins with the name of one of its arguments, the node's path is put before
    it: "group_by must be ..." becomes "measure.group_by must be ...". For a `_partial_` node, this applies to the
    later call too.

    Args:
        node: A config node.
        path: The path of the node in the config; None to ask the node.
        extra: Further arguments of the function.

    Raises:
        InputError: the function raises it, lacks an argument of that name or type, or does not exist, or its module
            cannot be imported.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if not isinstance(node, Mapping):
        raise InputError(f"Expected several options instead of {node!r}. Give one of them, such as cache.use=off.")
    path = _path(node) if path is None else path
    _check_types(node, path)
    try:
        built = instantiate(_literal(node), _convert_="all", **extra)
    except InstantiationException as error:
        located = re.search(r"locating target '([^']*)'", str(error))
        if located is not None:  # the target may be that of a node within this one
            raise _not_located(located[1]) from error
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, InputError):
                _add_path(cause, node.get("_target_"), path)
                raise cause from None
            if isinstance(cause, TypeError):
                raise InputError(f"{node.get('_target_')}: {cause}.") from error
            cause = cause.__cause__
        raise
    return _BuiltPartial(built, path) if isinstance(built, partial) else built


def _literal(node: Any) -> Any:
    """Return a node in which `instantiate`, which reads every text twice, leaves an escaped `${` as it is."""
    from omegaconf import OmegaConf

    resolved = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if "${" not in str(resolved):
        return node
    return OmegaConf.create(_escaped(_escaped(resolved)))


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


class _BuiltPartial(partial):
    """A partial function whose InputErrors name the config's options."""

    path: str

    def __new__(cls, built: partial, path: str) -> "_BuiltPartial":
        self = super().__new__(cls, built.func, *built.args, **built.keywords)
        self.path = path
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _BuiltPartial, (partial(self.func, *self.args, **self.keywords), self.path)

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        with _with_path(self.func, self.path):
            return super().__call__(*args, **keywords)


@contextmanager
def _with_path(called: Any, path: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        _add_path(error, called, path)
        raise


def _add_path(error: InputError, called: Any, path: str) -> None:
    from hydra.utils import get_object

    name = re.match(r"([a-z_]\w*)(?=[\s.=:,\[])", str(error))
    if not path or name is None:
        return
    try:
        parameters = signature(get_object(called) if isinstance(called, str) else called).parameters
    except Exception:  # a function without a signature
        return
    # A function that takes any options names one it refuses as `name=value`.
    open_ended = any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())
    if name[1] in parameters or (open_ended and str(error)[name.end()] == "="):
        error.args = (f"{path}.{error}",)


def _path(node: Any) -> str:
    return node._get_full_key(None) if hasattr(node, "_get_full_key") else ""


def _not_located(target: str) -> InputError:
    # Hydra reports a missing module and one that fails while it is imported in the same way.
    parts = target.split(".")
    for count in range(1, len(parts) + 1 if all(parts) else 1):
        module = ".".join(parts[:count])
        try:
            import_module(module)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                break
            problem = f"{type(error).__name__}: {error}"
            if not isinstance(error, SyntaxError):  # the message of a SyntaxError already has the place
                last = [frame for frame in extract_tb(error.__traceback__) if "importlib" not in frame.filename][-1]
                problem += f", {last.filename}:{last.lineno}"
            return InputError(
                f"'{target}' cannot be loaded: its module '{module}' exists, but importing it fails ({problem}). "
                "Fix the module, or install what it needs."
            )
    return InputError(f"There is no '{target}'. A _target_ is a function's full dotted path.")


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _check_types(node: Mapping, path: str) -> None:
    """Raise InputError if an option should be a number, a switch or a name and is not.

    The expected types are the annotations of our own functions. Options of other types are left to the functions.
    """
    from hydra.utils import get_object

    target = node.get("_target_")
    if not str(target).startswith("adapt."):
        return
    try:
        called = unwrap(get_object(str(target)))
        hints = get_type_hints(called.__init__ if isinstance(called, type) else called)
    except Exception:  # `instantiate` reports it with its cause
        return
    for key in node.keys() & hints.keys():
        value, hint = node.get(key), hints[key]
        kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        if value is None and NoneType in kinds:
            continue
        or_null = " or null" if NoneType in kinds else ""
        kinds.discard(NoneType)
        kind = float if float in kinds else next(iter(kinds))
        expected = None
        if kinds <= _KINDS.keys() and not _is(value, kind):
            expected = _KINDS[kind]
        elif kinds == {str, Sequence[str]} and isinstance(value, (bool, int, float)):
            expected = "a name or a list of names"
        if expected is not None:
            name = f"{path}.{key}" if path else key
            raise InputError(f"{name} must be {expected}{or_null}, got {value!r}.")


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else int)


def build_splits(data: Any) -> Any:
    """Build the splits of a command's `data` node. Its `on_error`, `check` and `group_by` are options of the command.

    Raises:
        InputError: as `build` and `grouping`.
    """
    grouping(data)  # used only at the end of a run, but checked before it begins
    own = {key: value for key, value in data.items() if key not in ("on_error", "check", "group_by")}
    return build(own, _path(data) or "data")


def grouping(data: Any) -> list[str]:
    """Return the keys by which a command's `data` node groups error rates. Raises InputError."""
    value = data.get("group_by")
    if value is None:
        return []
    keys = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not all(isinstance(key, str) for key in keys):
        raise InputError(
            f"data.group_by must be a key of the data, such as accent, a list of keys, or null, got {value!r}."
        )
    return list(keys)
