"""The words of a comparison on its page: tables of those that gained and lost, examples in full, players."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from adapt import formatting
from adapt.report import columns

if TYPE_CHECKING:
    from adapt.comparison.recordings import Recording
    from adapt.comparison.results import Comparison
    from adapt.comparison.words import Transcript, WordChange, WordChanges

MOST_WORDS = 10  # that gained, and as many that lost
SHOWN = 3  # examples in which a word must have become right, or wrong, to be shown


@dataclass(frozen=True)
class _Part:
    better: bool
    words: list[WordChange]
    left_out: int


@dataclass(frozen=True)
class WordTable:
    """The words of one set that changed most, those that gained and those that lost."""

    set: str
    in_order: bool
    summary: str
    parts: list[_Part]


def word_tables(words: Mapping[str, WordChanges]) -> list[WordTable]:
    """A table for each set."""
    return [_table(name, found) for name, found in words.items()]


def _table(name: str, found: WordChanges) -> WordTable:
    # Those that gained most stand first in what was found, those that lost most last.
    gained = [word for word in found.words if word.after > word.before and word.gained >= SHOWN]
    lost = [word for word in reversed(found.words) if word.after < word.before and word.lost >= SHOWN]
    parts = [
        _Part(better, words[:MOST_WORDS], len(words[MOST_WORDS:]))
        for better, words in ((True, gained), (False, lost))
        if words
    ]
    return WordTable(name, found.in_order, _summary(found), parts)


def _summary(found: WordChanges) -> str:
    gained, lost = (
        sum(word.clear and (word.gained > word.lost) == better for word in found.words) for better in (True, False)
    )
    return (
        f"Of {formatting.counted(len(found.words), 'different word')}, {gained:,} became right more often and {lost:,} "
        f"less often, by more than chance explains. Extra words, in all: {found.extra_before:,} before, "
        f"{found.extra_after:,} after."
    )


def transcript_rows(
    comparison: Comparison,
) -> list[tuple[Transcript, str, list[list[columns.Column]], Markup]]:
    """Each transcript with its short name, its lines of columns, and the player of its recording, where it has one."""
    rows = []
    for place, transcript in enumerate(comparison.transcripts):
        # The file's name is enough to recognise it by; where it lies is in comparison.json.
        name, recording = Path(transcript.name).name, comparison.recordings.get(place)
        player = Markup("") if recording is None else _player(name, recording)
        rows.append((transcript, name, list(columns.lines(columns.columns(transcript))), player))
    return rows


def _player(name: str, recording: Recording) -> Markup:
    # Not preloaded: the page would wait for every recording to be decoded, twice as long.
    address = "data:audio/mpeg;base64," + b64encode(recording.mp3).decode()
    return Markup('<audio controls preload="none" aria-label="Recording {}, {}" src="{}"></audio>').format(
        name, formatting.duration(recording.seconds), address
    )
