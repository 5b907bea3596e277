"""Functions that work on every kind of example: utterances, recordings in memory and sentence pairs."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from adapt.data.example import Example
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.errors import InputError


def with_text(example: Example, text: str) -> Example:
    """Return a copy of the example with `text` as its reference."""
    if isinstance(example, Pair):
        return replace(example, target=text)
    if isinstance(example, (Utterance, Recording)):
        return replace(example, text=text)
    raise TypeError(f"Expected an utterance, a recording or a sentence pair, got {type(example).__name__}.")


def unexpected(example: Any, reads: Literal["audio", "text"]) -> InputError:
    """Return the error for an example of a kind that the model does not read."""
    expected = "Utterance or Recording" if reads == "audio" else "Pair"
    return InputError(f"This model reads {reads}: expected examples of type {expected}, got {type(example).__name__}.")


def input_exists(example: Example) -> bool:
    """Return whether the input can be read: an utterance needs its audio file, other examples need none."""
    return not isinstance(example, Utterance) or os.path.isfile(example.audio_filepath)


def to_row(example: Example) -> dict[str, Any]:
    """Return the example as a JSON object. Raises InputError for audio in memory, which has no file to name."""
    if isinstance(example, Pair):
        return {"source": example.source, "target": example.target}
    if isinstance(example, Utterance):
        audio = str(example.audio_filepath.absolute())
        return {"audio": audio, "text": example.text, "offset": example.offset, "duration": example.duration}
    raise InputError(f"{example.name}: audio in memory cannot be stored. Write it to a file and pass the file.")


def from_row(row: Mapping[str, Any]) -> Example:
    """Return the example for a row that `to_row` made."""
    if "source" in row:
        return Pair(row["source"], row["target"])
    return Utterance(Path(row["audio"]), row["text"], offset=row["offset"], duration=row["duration"])
