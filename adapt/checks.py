"""Checks of arguments. Each raises InputError with the argument's name, what was expected and what was given."""

import math
from collections.abc import Collection
from typing import Any

from adapt.errors import InputError

# The range of a share in words. Keys: whether 0 is allowed, whether 1 is allowed.
_SHARES = {
    (False, False): "above 0 and below 1",
    (False, True): "above 0 and at most 1",
    (True, False): "of at least 0 and below 1",
    (True, True): "from 0 to 1",
}


def check_count(name: str, value: Any, minimum: int = 0, maximum: int | None = None, hint: str = "") -> None:
    """Check that `value` is a whole number.

    Args:
        name: The name of the argument, for the message.
        value: The value to check.
        minimum: The smallest allowed value.
        maximum: The largest allowed value; None for no limit.
        hint: A sentence that is added to the message.

    Raises:
        InputError: `value` is of another type or out of range.
    """
    number = isinstance(value, int) and not isinstance(value, bool)
    if not number or value < minimum or (maximum is not None and value > maximum):
        bounds = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise _error(name, f"a whole number {bounds}", value, hint)


def check_counts(minimum: int, /, **values: Any) -> None:
    """Check that all named values are whole numbers of at least `minimum`. Raises InputError."""
    for name, value in values.items():
        check_count(name, value, minimum)


def check_number(
    name: str, value: Any, minimum: float | None = None, above: float | None = None, hint: str = ""
) -> None:
    """Check that `value` is a finite number.

    Args:
        name: The name of the argument, for the message.
        value: The value to check.
        minimum: The smallest allowed value; None for no limit.
        above: A value that `value` must exceed; None for no limit.
        hint: A sentence that is added to the message.

    Raises:
        InputError: `value` is of another type or out of range.
    """
    if not is_number(value) or (minimum is not None and value < minimum) or (above is not None and value <= above):
        bounds = "" if minimum is None else f" of at least {minimum:g}"
        bounds += "" if above is None else f" above {above:g}"
        raise _error(name, f"a number{bounds}", value, hint)


def check_share(name: str, value: Any, zero: bool = False, one: bool = False) -> None:
    """Check that `value` is a number between 0 and 1.

    Args:
        name: The name of the argument, for the message.
        value: The value to check.
        zero: Whether 0 is allowed.
        one: Whether 1 is allowed.

    Raises:
        InputError: `value` is of another type or out of range.
    """
    if not is_number(value) or not (value >= 0 if zero else value > 0) or not (value <= 1 if one else value < 1):
        raise _error(name, f"a share {_SHARES[zero, one]}", value)


def check_flag(name: str, value: Any) -> None:
    """Check that `value` is True or False. Raises InputError."""
    if not isinstance(value, bool):
        raise _error(name, "true or false", value)


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Check that `value` is one of `choices`. Raises InputError."""
    if value not in tuple(choices):
        raise _error(name, f"one of {', '.join(map(str, choices))}", value)


def check_type(name: str, value: Any, expected: type | tuple[type, ...], hint: str) -> None:
    """Check that `value` is of an expected type. `hint` says how to get one. Raises InputError."""
    if not isinstance(value, expected):
        names = expected if isinstance(expected, tuple) else (expected,)
        raise _error(name, f"of type {' or '.join(one.__name__ for one in names)}", value, hint)


def is_number(value: Any) -> bool:
    """Return whether `value` is a finite int or float. True and False are not numbers here."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _error(name: str, expected: str, value: Any, hint: str = "") -> InputError:
    return InputError(f"{name} must be {expected}; got {value!r}.{' ' if hint else ''}{hint}")
