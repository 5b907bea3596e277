"""Read the candidates to choose from, without what is labelled already."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapt.data.example import Example
from adapt.data.inputs import find_audio, read_sources
from adapt.data.manifest import Splits, Utterance
from adapt.data.pairs import Pair
from adapt.data.splits import SPLITS, OnError, check_examples, stop_or_skip
from adapt.errors import InputError
from adapt.files import resolved
from adapt.formatting import counted
from adapt.models.loaded import Loaded

log = logging.getLogger(__name__)


def read_candidates(
    loaded: Loaded,
    audio: Path | str | Sequence[Path | str] | None = None,
    sentences: Path | str | None = None,
    labelled: Splits | None = None,
    on_error: OnError = "stop",
) -> list[Example] | list[str]:
    """Read recordings to transcribe, or sentences to translate or to read aloud.

    Args:
        loaded: The model that will be adapted.
        audio: Recordings: files, folders, globs or manifests (`adapt.data.inputs.find_audio`).
        sentences: A file of sentences: one per line, or any format of source sentences.
        labelled: Data that are labelled already: what is in it, and repeated candidates, are left out.
        on_error: What to do about recordings that cannot be read: "stop" or "skip".

    Returns:
        Utterances for `audio`; pairs, if the model translates, or texts for `sentences`. Empty if both are None.

    Raises:
        InputError: both are given, a file cannot be read, the model does not read audio, or all candidates are
            labelled already.
    """
    if audio is not None and sentences is not None:
        raise InputError("audio and sentences are both given. Give one of them: a batch is of one kind.")
    if audio is None and sentences is None:
        return []
    if audio is not None and not loaded.model.reads_audio:
        raise InputError(f"audio is given, but '{loaded.reference}' reads text. Give sentences to translate.")
    found: Sequence[Any]
    if audio is not None:
        utterances, problems = find_audio([audio] if isinstance(audio, (str, Path)) else audio)
        found, rejected = check_examples(utterances, loaded.model, training=False)
        problems += rejected
    else:
        pairs, problems = read_sources(str(sentences), "sentences")
        found = [pair for pair in pairs if pair.source.strip()]
    stop_or_skip(problems, on_error, "on_error")
    known = {_key(example) for name in SPLITS for example in getattr(labelled or Splits(), name)}
    unique: dict[Any, Any] = {}
    for one in found:
        unique.setdefault(_key(one), one)
    fresh = [one for key, one in unique.items() if key not in known]
    if len(fresh) < len(found):
        log.info("Left out %s that are labelled already, or repeated.", counted(len(found) - len(fresh), "candidate"))
    if not fresh:
        raise InputError(f"There is nothing to choose from: all {len(found)} candidates are labelled already.")
    return [one.source for one in fresh] if loaded.model.reads_audio and audio is None else fresh


def _key(example: Any) -> Any:
    if isinstance(example, Utterance):
        return str(resolved(example.audio_filepath)), example.offset
    return " ".join((example.source if isinstance(example, Pair) else example.text).split())
