"""Utterances and their manifests: JSONL with NeMo's keys (audio_filepath, duration, text, ...), or other formats."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.data.example import Example, Phoneme
from adapt.data.formats.columns import Columns
from adapt.data.formats.rows import Row
from adapt.data.formats.speech import speech_rows
from adapt.errors import InputError
from adapt.files import atomic, name_problem, user_path

_TEXT_KEYS = ("speaker", "accent", "lang")
_NUMBER_KEYS = ("duration", "offset")
_KNOWN = {"audio_filepath", "text", "phonemes", *_TEXT_KEYS, *_NUMBER_KEYS}


@dataclass(frozen=True, slots=True)
class Utterance:
    """A recorded utterance: one line of a manifest.

    Attributes:
        audio_filepath: the audio file.
        text: the transcript.
        duration: the length in seconds; None if the utterance lasts to the end of the file.
        offset: where the utterance starts in the file, in seconds.
        speaker, accent, lang: who speaks, with which accent, and in which language; None if unknown.
        phonemes: the phonemes, with times in seconds from the start of the utterance; may be empty.
        extra: all other keys of the line.
        where: the file and line that the utterance comes from, for messages.
        speeds: the speeds of perturbation at which the model can learn it; None for all (`adapt.data.splits`).
    """

    audio_filepath: Path
    text: str
    duration: float | None = None
    offset: float = 0.0
    speaker: str | None = None
    accent: str | None = None
    lang: str | None = None
    phonemes: tuple[Phoneme, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    speeds: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """The path of the audio file."""
        return str(self.audio_filepath)

    def group(self, key: str) -> str:
        """Return the value of `key` ("accent", "speaker" or any extra key) as text, or "unknown" if there is none."""
        value = getattr(self, key) if key in _TEXT_KEYS else self.extra.get(key)
        return "unknown" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Splits:
    """The data of a run, as examples.

    Attributes:
        train, validation, test: examples of the target, which the model adapts to.
        source_test: test examples of the source, which the model should not forget.
        source_train: further examples of the source, for replay and for comparing neurons.
        source_validation: examples of the source on which a blend is chosen.
        problems: one sentence for each line or row that cannot be used.
    """

    train: tuple[Example, ...] = ()
    validation: tuple[Example, ...] = ()
    test: tuple[Example, ...] = ()
    source_test: tuple[Example, ...] = ()
    source_train: tuple[Example, ...] = ()
    source_validation: tuple[Example, ...] = ()
    problems: tuple[str, ...] = ()


def read_manifest(
    path: Path | str,
    needs_text: bool = True,
    audio_column: str | None = None,
    text_column: str | None = None,
    audio_folder: Path | str | None = None,
) -> tuple[list[Utterance], list[str]]:
    """Read speech data: a manifest, or any other format of `adapt.data.formats`, chosen by looking at the file.

    Relative audio paths are relative to the file's folder.

    Args:
        path: a file (JSON lines, CSV, TSV, JSON, lhotse's cuts, Parquet) or a folder (Kaldi, audiofolder, audio files
            with texts beside them, a saved dataset).
        needs_text: whether an utterance without a text is unusable.
        audio_column: the column or key of the audio file, if it has none of the usual names or several could be it.
        text_column: the same for the text.
        audio_folder: the folder at which relative audio paths start, which also stands for a placeholder such as
            `{data_root}`; None for the file's folder.

    Returns:
        The utterances, and one sentence with the line's number for each line that cannot be used.
        `adapt.data.splits.check_splits` decides whether such problems stop the run.

    Raises:
        InputError: the path does not exist, cannot be read, or has no usable line.
    """
    for name, value in {"audio_column": audio_column, "text_column": text_column}.items():
        if value is not None and not isinstance(value, str):
            raise InputError(f"{name} must be the name of a column, got {value!r}.")
    path = user_path(path)
    columns = Columns(audio_column, text_column, None if audio_folder is None else user_path(audio_folder).absolute())
    utterances, problems = [], []
    rows, folder = speech_rows(path, columns, needs_text)
    for row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            utterances.append(_utterance(row, folder, needs_text))
        except InputError as error:
            problems.append(str(error))
    if not utterances:
        first = f" The first problem: {problems[0]}" if problems else " It is empty."
        raise InputError(f"The manifest '{path}' has no usable line.{first}")
    return utterances, problems


def write_manifest(path: Path | str, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, atomically. Audio paths below the manifest's folder become relative to it."""
    path = Path(path)
    # A lone surrogate, which only a file name can have here, is written as its escape.
    with atomic(path) as part, open(part, "w", encoding="utf-8", errors="backslashreplace") as file:
        for utterance in utterances:
            file.write(manifest_line(utterance, path.parent))


def manifest_line(utterance: Utterance, folder: Path | None = None) -> str:
    """Return the line of a manifest. An audio path below `folder`, the manifest's, becomes relative to it."""
    return json.dumps(_as_row(utterance, folder), ensure_ascii=False) + "\n"


def _utterance(row: Row, folder: Path, needs_text: bool) -> Utterance:
    values, where = row.values, row.where
    for key in ("audio_filepath", "text") if needs_text else ("audio_filepath",):
        if not isinstance(values.get(key), str) or not values[key].strip():
            has = ", ".join(sorted(values)) or "none"
            raise InputError(f"{where}: needs the key '{key}' with a non-empty text. The line has the keys: {has}.")
    audio = values["audio_filepath"]
    if audio.startswith("~") and str(user_path(audio)) == audio:
        raise InputError(f"{where}: there is no home folder '{audio.partition('/')[0]}' for '{audio}'.")
    problem = name_problem(audio)
    if problem is not None:
        raise InputError(f"{where}: {problem}.")
    facts: dict[str, Any] = {key: None if values.get(key) is None else str(values[key]) for key in _TEXT_KEYS}
    return Utterance(
        audio_filepath=Path(os.path.join(folder, os.path.expanduser(audio))),
        text="" if values.get("text") is None else str(values["text"]),
        duration=values.get("duration"),
        offset=values.get("offset") or 0.0,
        phonemes=_phonemes(values.get("phonemes") or [], where),
        extra={key: value for key, value in values.items() if key not in _KNOWN},
        where=where,
        **facts,
    )


def _phonemes(rows: Any, where: str) -> tuple[Phoneme, ...]:
    try:
        return tuple(Phoneme(str(symbol), float(start), float(end)) for symbol, start, end in rows)
    except (TypeError, ValueError):
        raise InputError(f"{where}: 'phonemes' must be a list of [symbol, start, end], times in seconds.") from None


def _as_row(utterance: Utterance, folder: Path | None) -> dict[str, Any]:
    audio = utterance.audio_filepath
    below = folder is not None and audio.is_relative_to(folder)
    row: dict[str, Any] = {
        "audio_filepath": str(audio.relative_to(folder) if folder is not None and below else audio.absolute()),
        "duration": utterance.duration,
        "text": utterance.text,
        "offset": utterance.offset or None,
        **{key: getattr(utterance, key) for key in _TEXT_KEYS},
        **utterance.extra,
        "phonemes": [[p.symbol, p.start, p.end] for p in utterance.phonemes] or None,
    }
    return {key: value for key, value in row.items() if value is not None}
