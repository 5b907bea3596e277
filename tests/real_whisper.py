"""A published Whisper and real speech, for the tests that need them. They are too large for this repository.

They are looked for in the folder that INNERTUNE_SHARED names, or else in `shared` beside the checkout.
"""

import os
from pathlib import Path

import pytest

from adapt.data.manifest import Utterance, read_manifest


def _shared(place: str) -> Path:
    named = os.environ.get("INNERTUNE_SHARED")
    path = (Path(named) if named else Path(__file__).resolve().parents[2] / "shared") / place
    if not path.exists():
        pytest.skip(f"needs {path}: set INNERTUNE_SHARED to a folder with models/ and data/")
    return path


def whisper_tiny() -> Path:
    """The folder of whisper-tiny.en. Skips the test if it is absent."""
    return _shared("models/whisper-tiny.en")


def digits(count: int) -> list[Utterance]:
    """Spoken English digits of one speaker, each digit in turn. Skips the test if they are absent."""
    found = read_manifest(_shared("data/fsdd/jackson_test.jsonl"))[0]
    return [*found[::10], *found[1::10]][:count]


def native_speech(count: int) -> list[Utterance]:
    """The first utterances of LJSpeech. Skips the test if they are absent."""
    return read_manifest(_shared("data/ljspeech/us_test.jsonl"))[0][:count]
