"""Strict JSON: duplicate keys, NaN, endless integers and deep nesting are named, not accepted or crashed on."""

import json
import math
from typing import Any

from adapt.errors import InputError

_DIGITS = 300  # of an integer: the largest float has 309


def parse_object(text: str, where: str, keys: str) -> dict[str, Any]:
    """Parse a text as a JSON object.

    Args:
        text: the JSON.
        where: the place, for messages.
        keys: the expected keys in words, for messages.

    Raises:
        InputError: the text is not a JSON object.
    """
    value = parse(text, where)
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object with {keys}, got {text.strip()[:60]}.")
    return value


def parse(text: str, where: str) -> Any:
    """Parse a text as one JSON value. Raises InputError if it is not one, or has values that no later step accepts."""
    text = text.strip()
    value, end = parse_at(text, 0, where)
    if end != len(text):
        raise InputError(f"{where}: not JSON (Extra data at column {end + 1}).")
    return value


def parse_at(text: str, start: int, where: str) -> tuple[Any, int]:
    """Parse the JSON value that begins at `start`. Returns the value, and where it ends. Raises InputError."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    except RecursionError:
        raise InputError(f"{where}: the values are nested too deeply. Expected plain values.") from None
    except _ValueProblemError as error:
        raise InputError(f"{where}: {error}") from None


def skip_at(text: str, start: int, where: str) -> int:
    """Return where the JSON value that begins at `start` ends, whatever it holds. Raises InputError without an end."""
    try:
        return _LENIENT.raw_decode(text, start)[1]
    except (json.JSONDecodeError, RecursionError):
        raise InputError(f"{where}: not JSON from here on. The rest of the file was not read.") from None


class _ValueProblemError(ValueError):
    """A value that is JSON, or nearly so, and that no later step accepts."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _ValueProblemError(f"the key '{twice[:60]}' is there twice. Keep one of them.")
    return values


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise _ValueProblemError(f"a number has {len(text):,} digits. Expected at most {_DIGITS}.")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _ValueProblemError(f"the number {text[:40]} is too large.")
    return value


def _constant(text: str) -> float:
    raise _ValueProblemError(f"{text} is not a number. Correct it or leave it out.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant)
_LENIENT = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len)
