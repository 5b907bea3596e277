"""Utterances and their JSONL manifests, with NeMo's keys: audio_filepath, duration, text, ..."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.checks import is_number
from adapt.data.example import Example, Phoneme
from adapt.errors import InputError
from adapt.files import atomic

_TEXT_KEYS = ("speaker", "accent", "lang")
_NUMBER_KEYS = ("duration", "offset")
_LONGEST = 1e7  # seconds; larger values, such as infinity, are rejected


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
        problems: one sentence for each line or row that cannot be used.
    """

    train: tuple[Example, ...] = ()
    validation: tuple[Example, ...] = ()
    test: tuple[Example, ...] = ()
    source_test: tuple[Example, ...] = ()
    source_train: tuple[Example, ...] = ()
    problems: tuple[str, ...] = ()


def read_manifest(path: Path | str, needs_text: bool = True) -> tuple[list[Utterance], list[str]]:
    """Read a manifest. Relative audio paths are relative to the manifest's folder.

    Returns:
        The utterances, and one sentence with the line's number for each line that cannot be used.
        `adapt.data.splits.check_splits` decides whether such problems stop the run.

    Raises:
        InputError: the file does not exist, is not UTF-8 text, or has no usable line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no manifest '{path}'. Expected a JSONL file with one utterance per line.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The manifest '{path}' is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    utterances, problems = [], []
    # splitlines() would also break at characters that may be part of a JSON string.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        where = f"{path}:{number}"
        try:
            utterances.append(_parse(line, where, path.parent, needs_text))
        except InputError as error:
            problems.append(str(error))
    if not utterances:
        first = f" The first problem: {problems[0]}" if problems else " It is empty."
        raise InputError(f"The manifest '{path}' has no usable line.{first}")
    return utterances, problems


def write_manifest(path: Path | str, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, atomically. Audio paths below the manifest's folder become relative to it."""
    path = Path(path)
    with atomic(path) as part, open(part, "w", encoding="utf-8") as file:
        for utterance in utterances:
            file.write(json.dumps(_as_row(utterance, path.parent), ensure_ascii=False) + "\n")


def json_row(line: str, where: str, keys: str) -> dict[str, Any]:
    """Parse a line as a JSON object. Raises InputError if it is not one; the message names the expected `keys`."""
    if not line.strip():
        raise InputError(f"{where}: the line is empty. Delete it, or write one JSON object.")
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object with {keys}, got {line.strip()[:60]}.")
    return row


def _parse(line: str, where: str, folder: Path, needs_text: bool) -> Utterance:
    row = json_row(line, where, "'audio_filepath' and 'text'")
    for key in ("audio_filepath", "text") if needs_text else ("audio_filepath",):
        if not isinstance(row.get(key), str) or not row[key].strip():
            has = ", ".join(sorted(row)) or "none"
            raise InputError(f"{where}: needs the key '{key}' with a non-empty text. The line has the keys: {has}.")
    for key in _NUMBER_KEYS:
        value = row.get(key)
        if value is not None and not (is_number(value) and 0 <= value <= _LONGEST):
            raise InputError(f"{where}: '{key}' must be a number of seconds, at least 0; got {value!r}.")
    try:
        audio = Path(row["audio_filepath"]).expanduser()
    except RuntimeError as error:
        raise InputError(f"{where}: '{row['audio_filepath']}': {error}") from None
    known = {"audio_filepath", "text", "phonemes", *_TEXT_KEYS, *_NUMBER_KEYS}
    facts: dict[str, Any] = {key: None if row.get(key) is None else str(row[key]) for key in _TEXT_KEYS}
    return Utterance(
        audio_filepath=audio if audio.is_absolute() else folder / audio,
        text="" if row.get("text") is None else str(row["text"]),
        duration=row.get("duration"),
        offset=row.get("offset") or 0.0,
        phonemes=_phonemes(row.get("phonemes") or [], where),
        extra={key: value for key, value in row.items() if key not in known},
        where=where,
        **facts,
    )


def _phonemes(rows: Any, where: str) -> tuple[Phoneme, ...]:
    try:
        return tuple(Phoneme(str(symbol), float(start), float(end)) for symbol, start, end in rows)
    except (TypeError, ValueError):
        raise InputError(f"{where}: 'phonemes' must be a list of [symbol, start, end], times in seconds.") from None


def _as_row(utterance: Utterance, folder: Path) -> dict[str, Any]:
    audio = utterance.audio_filepath
    row: dict[str, Any] = {
        "audio_filepath": str(audio.relative_to(folder) if audio.is_relative_to(folder) else audio.absolute()),
        "duration": utterance.duration,
        "text": utterance.text,
        "offset": utterance.offset or None,
        **{key: getattr(utterance, key) for key in _TEXT_KEYS},
        **utterance.extra,
        "phonemes": [[p.symbol, p.start, p.end] for p in utterance.phonemes] or None,
    }
    return {key: value for key, value in row.items() if value is not None}
