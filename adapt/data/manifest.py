"""Utterances, and the JSONL manifests they are kept in (NeMo's keys: audio_filepath, duration, text, ...)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.files import atomic

_TEXT_KEYS = ("speaker", "accent", "lang")
_NUMBER_KEYS = ("duration", "offset")
_LONGEST = 1e7  # seconds: infinity is no time


@dataclass(frozen=True, slots=True)
class Phoneme:
    """One phoneme of an utterance: its IPA symbol, and when it starts and ends (seconds from the utterance's start)."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest. Times are in seconds.

    `offset` and `duration` pick a part of the audio file; without a duration it runs to the file's end. `where` says
    which line of which file it came from, for messages. Keys that we do not know are kept in `extra`.
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

    @property
    def name(self) -> str:
        """Its audio file."""
        return str(self.audio_filepath)

    def group(self, key: str) -> str:
        """The value of `key` ("accent", "speaker", or any extra key), as text; "unknown" where the line has none."""
        value = getattr(self, key) if key in _TEXT_KEYS else self.extra.get(key)
        return "unknown" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Splits:
    """What a run reads. `test` is the target that one adapts to; `source_test` is what the model should not forget.

    `source_train` is of the same kind as `source_test`, to measure what a target's neurons do otherwise, and to replay.
    `problems` has a sentence for each line or row that could not be used.
    """

    train: tuple[Example, ...] = ()
    validation: tuple[Example, ...] = ()
    test: tuple[Example, ...] = ()
    source_test: tuple[Example, ...] = ()
    source_train: tuple[Example, ...] = ()
    problems: tuple[str, ...] = ()


def read_manifest(path: Path | str, needs_text: bool = True) -> tuple[list[Utterance], list[str]]:
    """Read a manifest; relative audio paths are taken from the manifest's folder.

    Returns the utterances and a list of problems, one sentence for each line that could not be used, with its number.
    Whether a problem stops the run or is skipped is for `check_splits` to say (`adapt.data.splits`).

    Raises:
        InputError: there is no such file, it is not UTF-8 text, or it has no line that can be used.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no manifest '{path}'. Expected a JSONL file, one utterance a line.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The manifest '{path}' is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    utterances, problems = [], []
    # Not splitlines(): it also breaks at signs that JSON leaves as they are inside a text.
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
    """Write a manifest, whole or not at all; audio below the manifest's folder is named relative to it."""
    path = Path(path)
    with atomic(path) as part, open(part, "w", encoding="utf-8") as file:
        for utterance in utterances:
            file.write(json.dumps(_as_row(utterance, path.parent), ensure_ascii=False) + "\n")


def json_row(line: str, where: str, keys: str) -> dict[str, Any]:
    """The JSON object that a line holds; `keys` names what it should have. Raises InputError where it holds none."""
    if not line.strip():
        raise InputError(f"{where}: the line is empty. Delete it, or give one JSON object.")
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
            raise InputError(f"{where}: needs the key '{key}' with a text that is not empty. Keys in the line: {has}.")
    for key in _NUMBER_KEYS:
        value = row.get(key)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value <= _LONGEST):
            raise InputError(f"{where}: '{key}' must be a number of seconds, 0 or more, got {value!r}.")
    try:
        audio = Path(row["audio_filepath"]).expanduser()
    except RuntimeError as error:
        raise InputError(f"{where}: '{row['audio_filepath']}': {error}") from None
    known = {"audio_filepath", "text", "phonemes", *_TEXT_KEYS, *_NUMBER_KEYS}
    return Utterance(
        audio_filepath=audio if audio.is_absolute() else folder / audio,
        text="" if row.get("text") is None else str(row["text"]),
        duration=row.get("duration"),
        offset=row.get("offset") or 0.0,
        phonemes=_phonemes(row.get("phonemes") or [], where),
        extra={key: value for key, value in row.items() if key not in known},
        where=where,
        **{key: None if row.get(key) is None else str(row[key]) for key in _TEXT_KEYS},
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
