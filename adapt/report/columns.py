"""Merge two alignments with the same reference into columns of a reference word and the output before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from adapt.comparison.words import AlignedWord, Transcript

Kind = Literal["right", "wrong", "extra", "missing", "none"]
LINE = 104  # characters on a line of the page, including the space between columns
BETWEEN = 3  # spaces between columns


@dataclass(frozen=True)
class Cell:
    """The output of a model in a column. Its kind is `none` if both the output and the reference are empty."""

    text: str
    kind: Kind


@dataclass(frozen=True)
class Column:
    """A reference word (empty for an inserted word), and the output before and after."""

    reference: str
    before: Cell
    after: Cell

    @property
    def width(self) -> int:
        """The width in characters, including the space to the next column."""
        return max(len(self.reference), len(self.before.text), len(self.after.text)) + BETWEEN


def columns(transcript: Transcript) -> list[Column]:
    """Return the columns of a transcript, before and after merged. Inserted words have columns of their own.

    Raises:
        ValueError: The two alignments have different references.
    """
    words_before, added_before = _places(transcript.before)
    words_after, added_after = _places(transcript.after)
    if [word.reference for word in words_before] != [word.reference for word in words_after]:
        raise ValueError(f"The alignments of {transcript.name!r} have different references.")
    merged: list[Column] = []
    for place, (extra_before, extra_after) in enumerate(zip(added_before, added_after, strict=True)):
        merged += [
            Column("", _extra(old), _extra(new)) for old, new in zip_longest(extra_before, extra_after, fillvalue="")
        ]
        if place < len(words_before):
            old, new = words_before[place], words_after[place]
            merged.append(Column(old.reference, _word(old), _word(new)))
    return merged


def lines(merged: Sequence[Column], width: int = LINE) -> Iterator[list[Column]]:
    """Break columns into lines of at most `width` characters; a longer column has a line of its own."""
    line: list[Column] = []
    for column in merged:
        if line and sum(other.width for other in line) + column.width > width:
            yield line
            line = []
        line.append(column)
    if line:
        yield line


def _places(words: Sequence[AlignedWord]) -> tuple[list[AlignedWord], list[list[str]]]:
    # Return the reference words, and the words inserted before each of them and after the last.
    places: list[AlignedWord] = []
    added: list[list[str]] = [[]]
    for word in words:
        if word.reference:
            places.append(word)
            added.append([])
        else:
            added[-1].append(word.hypothesis)
    return places, added


def _word(word: AlignedWord) -> Cell:
    if not word.hypothesis:
        return Cell("", "missing")
    return Cell(word.hypothesis, "right" if word.hypothesis == word.reference else "wrong")


def _extra(text: str) -> Cell:
    return Cell(text, "extra" if text else "none")
