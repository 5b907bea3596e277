"""The words of a comparison in the report: tables of changed words, and transcripts with their audio."""

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
    from adapt.comparison.recordings import AudioClip
    from adapt.comparison.results import Comparison
    from adapt.comparison.words import Transcript, WordChange, WordChanges

MAX_WORDS = 10  # improved words listed per table; the same limit holds for worsened words
MIN_EXAMPLES = 3  # a word is listed if it improved, or worsened, in this many examples


@dataclass(frozen=True)
class _Block:
    """One half of a word table: the improved words, or the worsened ones."""

    better: bool
    words: list[WordChange]
    left_out: int


@dataclass(frozen=True)
class WordTable:
    """The words of one set that changed most: those that improved, and those that worsened."""

    set: str
    aligned: bool
    summary: str
    blocks: list[_Block]


def word_tables(words: Mapping[str, WordChanges]) -> list[WordTable]:
    """Return a table for each set."""
    return [_table(name, changes) for name, changes in words.items()]


def _table(name: str, changes: WordChanges) -> WordTable:
    # `changes.words` is sorted from the most improved to the most worsened word.
    improved = [
        word for word in changes.words if word.correct_after > word.correct_before and word.improved >= MIN_EXAMPLES
    ]
    worsened = [
        word
        for word in reversed(changes.words)
        if word.correct_after < word.correct_before and word.worsened >= MIN_EXAMPLES
    ]
    blocks = [
        _Block(better, words[:MAX_WORDS], len(words[MAX_WORDS:]))
        for better, words in ((True, improved), (False, worsened))
        if words
    ]
    return WordTable(name, changes.aligned, _summary(changes), blocks)


def _summary(changes: WordChanges) -> str:
    significant = [word for word in changes.words if word.significant]
    improved = sum(word.improved > word.worsened for word in significant)
    words = formatting.counted(len(changes.words), "different word")
    return (
        f"Of {words}, {improved:,} improved significantly and {len(significant) - improved:,} worsened significantly. "
        f"Inserted words in total: {changes.inserted_before:,} before, {changes.inserted_after:,} after."
    )


def transcript_rows(
    comparison: Comparison,
) -> list[tuple[Transcript, str, list[list[columns.Column]], Markup]]:
    """Return each transcript with its short name, its lines of columns, and an audio player (empty without audio)."""
    rows = []
    for index, transcript in enumerate(comparison.transcripts):
        # The file name identifies the recording; comparison.json has the whole path.
        name, clip = Path(transcript.name).name, comparison.audio_clips.get(index)
        player = Markup("") if clip is None else _player(name, clip)
        rows.append((transcript, name, list(columns.lines(columns.columns(transcript))), player))
    return rows


def _player(name: str, clip: AudioClip) -> Markup:
    # Without preload="none", browsers would decode every recording, and do so twice, before they show the page.
    address = "data:audio/mpeg;base64," + b64encode(clip.mp3).decode()
    return Markup('<audio controls preload="none" aria-label="Recording {}, {}" src="{}"></audio>').format(
        name, formatting.duration(clip.seconds), address
    )
