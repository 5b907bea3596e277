"""A row: the plain values of one utterance or one sentence pair, and the file and line that they come from."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapt.errors import InputError
from adapt.files import has_surrogate

_DEEPEST = 32  # levels of lists and objects: later steps write JSON, and recurse


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one utterance or pair.

    Attributes:
        values: JSON values by key.
        where: the file and line, FILE:LINE, for messages.
    """

    values: Mapping[str, Any]
    where: str


# What a reader yields: a row, or the error of a line that cannot be used.
Rows = Iterator[Row | InputError]


def checked(rows: Rows) -> Rows:
    """Replace rows with values that no later step could write: half characters, NaN, and values nested too deeply."""
    for row in rows:
        if isinstance(row, InputError):  # its message may quote half a character
            yield InputError(str(row).encode("utf-8", "backslashreplace").decode()) if has_surrogate(str(row)) else row
            continue
        problem = value_problem(row.values)
        yield row if problem is None else InputError(f"{row.where}: {problem}")


def value_problem(value: Any) -> str | None:
    """Return the problem of a JSON value, as a sentence: half a character, NaN, infinity or deep nesting; else None."""
    level = [("", value)]
    for _ in range(_DEEPEST):
        inner: list[tuple[str, Any]] = []
        for key, one in level:
            if isinstance(one, str) and has_surrogate(one):
                return f"{_place(key)} contains half of a character (a lone escape such as \\ud83d). Correct it."
            if isinstance(one, float) and not math.isfinite(one):
                return f"{_place(key)} is {one}, which is not a number. Correct it or leave it out."
            if isinstance(one, Mapping):
                if any(has_surrogate(str(own)) for own in one):
                    return "a key contains half of a character (a lone escape such as \\ud83d). Correct it."
                inner += [(key or str(own), item) for own, item in one.items()]
            elif isinstance(one, (list, tuple)):
                inner += [(key, item) for item in one]
        if not inner:
            return None
        level = inner
    return f"the values are nested more than {_DEEPEST} levels deep. Expected plain values."


def _place(key: str) -> str:
    return f"'{_printable(key)}'" if key else "the line"


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()[:60]
