"""JSON documents: an array of objects, or one object whose keys are the identifiers (SpeechBrain)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapt.data.formats.json_values import parse_at, skip_at
from adapt.data.formats.lines import read_text
from adapt.data.formats.rows import Row, Rows
from adapt.errors import InputError

_SPACE = re.compile(r"\s*")


def array_rows(path: Path) -> Rows:
    """Yield the objects of a JSON array.

    Raises:
        InputError: the file cannot be read, or is too large.
    """
    return _rows(_Document(path), "[", "]", with_keys=False)


def object_rows(path: Path) -> Rows:
    """Yield the values of a JSON object, each an object, with its key as "id", as SpeechBrain writes its data.

    Raises:
        InputError: the file cannot be read, or is too large.
    """
    return _rows(_Document(path), "{", "}", with_keys=True)


class _Document:
    """A text with a position, which only moves forward."""

    def __init__(self, path: Path) -> None:
        self.path, self.text, self.position = path, read_text(path), 0
        self._line, self._counted = 1, 0

    def where(self) -> str:
        """The file and line of the position."""
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return f"{self.path}:{self._line}"

    def next(self) -> str:
        """Skip white space, and return the character there; "" at the end."""
        match = _SPACE.match(self.text, self.position)
        self.position = match.end() if match else self.position
        return self.text[self.position : self.position + 1]

    def take(self, character: str) -> None:
        """Move behind a character. Raises InputError if another one is there."""
        if self.next() != character:
            raise InputError(f"{self.where()}: not JSON: expected '{character}'. The rest of the file was not read.")
        self.position += 1

    def value(self) -> Any:
        """Parse the value at the position, and move behind it. Raises InputError if it cannot be used."""
        start = self.position
        self.position = skip_at(self.text, start, self.where())
        return parse_at(self.text, start, f"{self.path}:{self._line}")[0]


def _rows(document: _Document, opening: str, closing: str, with_keys: bool) -> Iterator[Row | InputError]:
    try:
        document.take(opening)
        if document.next() == closing:
            return
        while True:
            yield _item(document, with_keys)
            if document.next() == closing:
                return
            document.take(",")
    except InputError as error:  # the position of the next item is not known
        yield error


def _item(document: _Document, with_keys: bool) -> Row | InputError:
    document.next()
    where, start, key = document.where(), document.position, None
    try:
        if with_keys:
            key = document.value()
            document.take(":")
            document.next()
        value = document.value()
    except InputError as error:
        if document.position == start or "not JSON" in str(error):
            raise
        return error
    if not isinstance(value, dict):
        return InputError(f"{where}: expected a JSON object with 'audio_filepath' and 'text', got {str(value)[:60]}.")
    return Row(value if key is None else {"id": key, **value}, where)
