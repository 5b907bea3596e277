"""What is done with an example of either kind, an utterance or a sentence pair."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapt.data.example import Example
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair


def with_text(example: Example, text: str) -> Example:
    """An example with another text."""
    return replace(example, target=text) if isinstance(example, Pair) else replace(example, text=text)


def is_there(example: Example) -> bool:
    """Whether what it is read from is there: a sentence always is."""
    return isinstance(example, Pair) or example.audio_filepath.is_file()


def to_row(example: Example) -> dict[str, Any]:
    """An example as JSON has it."""
    if isinstance(example, Pair):
        return {"source": example.source, "target": example.target}
    audio = str(example.audio_filepath.absolute())
    return {"audio": audio, "text": example.text, "offset": example.offset, "duration": example.duration}


def from_row(row: Mapping[str, Any]) -> Example:
    """The example that `to_row` wrote."""
    if "source" in row:
        return Pair(row["source"], row["target"])
    return Utterance(Path(row["audio"]), row["text"], offset=row["offset"], duration=row["duration"])
