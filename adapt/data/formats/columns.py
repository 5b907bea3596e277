"""Which keys of a row are the audio file, the text, the speaker and the times, by the names that people use."""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.checks import is_number
from adapt.data.formats.rows import Row
from adapt.data.formats.table import plain_name
from adapt.errors import InputError
from adapt.files import exists, is_folder

AUDIO = ("audio_filepath", "audio", "audio_path", "audio_file", "path", "file", "file_path", "filepath", "file_name")
AUDIO += ("filename", "wav", "wav_path", "wav_file", "wav_filename")
TEXT = ("text", "sentence", "transcript", "transcription")
_LATE_TEXT = ("wrd", "words")  # SpeechBrain's; elsewhere they may be a count, so any other text is preferred
_NAMES = {
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "spkid", "client_id"),
    "accent": ("accent", "accents"),
    "lang": ("lang", "language", "locale"),
}
_START, _END = ("start", "start_time", "begin"), ("end", "end_time", "stop")
_TIMES = ("duration", "offset", *_START, *_END)
KNOWN = frozenset((*AUDIO, *TEXT, *_LATE_TEXT, *_TIMES, *(name for names in _NAMES.values() for name in names)))
_TIME_WORDS = {"start", "begin", "end", "stop", "onset", "offset", "tmin", "tmax"}
_PLACEHOLDER = re.compile(r"(\{\w+\}|\$\w+|\$\{\w+\}|<\w+>)[/\\]")
_ADDRESS = re.compile(r"\w{2,}://")
_TOLERANCE = 0.05  # seconds between a duration and the difference of start and end


@dataclass(frozen=True)
class Columns:
    """How to read rows.

    Attributes:
        audio: the key of the audio file; None to find it by the usual names.
        text: the same for the text.
        folder: the folder that relative paths and a placeholder such as `{data_root}` stand for; None for `base`.
    """

    audio: str | None = None
    text: str | None = None
    folder: Path | None = None

    def known(self) -> set[str]:
        """The plain names of columns by which a table is recognised."""
        return {*KNOWN, *(plain_name(name) for name in (self.audio, self.text) if name is not None)}

    def canonical(self, row: Row, base: Path, needs_text: bool = True, own: bool = False, cells: bool = False) -> Row:
        """Return the row with our own keys: audio_filepath, text, offset, duration, speaker, accent, lang; others stay.

        Args:
            row: the row of a file.
            base: the file's folder.
            needs_text: whether a row without a text is unusable.
            own: whether the row is from JSON lines. Then other texts and files beside our own keys are further values.
            cells: whether the values are the cells of a table, so that times are texts.

        Raises:
            InputError: no key, or several, can be the audio file or the text, or the times contradict each other.
        """
        values, plain = dict(row.values), {plain_name(key): key for key in row.values}
        both = own and "audio_filepath" in values and ("text" in values or not needs_text)
        audio = self._choose("audio", plain, row, AUDIO, both)
        text = self._choose("text", plain, row, TEXT, both, needed=needs_text)
        found: dict[str, Any] = {"audio_filepath": self._path(_file(values.pop(audio)), base, row.where)}
        if text is not None:
            found["text"] = values.pop(text)
        for name, aliases in _NAMES.items():
            key = name if name in values else next((plain[alias] for alias in aliases if alias in plain), None)
            if key is not None and key in values:  # another name stays as well, because results can be grouped by it
                found[name] = values.pop(key) if key == name else values[key]
        found |= _times(values, plain, row.where, cells)
        if not both:
            _refuse_other_times(values, row.where)
        return Row({**found, **{key: value for key, value in values.items() if key not in found}}, row.where)

    def _choose(
        self, what: str, plain: Mapping[str, str], row: Row, aliases: Iterable[str], own: bool, needed: bool = True
    ) -> Any:
        given = self.audio if what == "audio" else self.text
        if given is not None:
            key = given if given in row.values else plain.get(plain_name(given))
            if key is None and needed:
                raise InputError(f"{row.where}: there is no column '{given}'. {_has(row)} Correct data.{what}_column.")
            return key
        keys = [plain[alias] for alias in aliases if alias in plain]
        if not keys and what == "text":
            keys = [plain[alias] for alias in _LATE_TEXT if alias in plain][:1]
        if own:
            name = "audio_filepath" if what == "audio" else "text"
            return name if name in row.values else None
        if len({str(row.values[key]) for key in keys}) > 1:
            names = " and ".join(f"'{key}'" for key in keys)
            kind = "the audio file" if what == "audio" else "the text"
            raise InputError(
                f"{row.where}: {names} can both be {kind}. {_has(row)} Choose with data.{what}_column=NAME."
            )
        if not keys and needed:
            name = "audio_filepath" if what == "audio" else "text"
            raise InputError(
                f"{row.where}: needs the key '{name}' with a non-empty text. {_has(row)} If another column holds "
                f"it, give data.{what}_column=NAME."
            )
        return keys[0] if keys else None

    def _path(self, value: Any, base: Path, where: str) -> Any:
        if not isinstance(value, str):
            return value
        placeholder = _PLACEHOLDER.match(value)
        if placeholder is not None and not exists(base / value):
            if self.folder is None:
                raise InputError(
                    f"{where}: the path '{value[:80]}' begins with the placeholder {placeholder[1]}. Give the folder "
                    "that it stands for: data.audio_folder=FOLDER."
                )
            value = value[placeholder.end() :]
        if _ADDRESS.match(value):
            raise InputError(f"{where}: '{value[:80]}' is an address. Download the file, and give its path.")
        if self.folder is not None and not value.startswith(("/", "~")):
            return str(self.folder / value)
        clips = os.path.join(base, "clips")
        if "\0" in value or not is_folder(clips) or exists(base / value):
            return value
        return str(Path(clips) / value) if exists(Path(clips) / value) else value


def _file(value: Any) -> Any:
    """Return the path in a value as Hugging Face writes it, {"path": ..., "bytes": null}; others as they are."""
    return value["path"] if isinstance(value, Mapping) and isinstance(value.get("path"), str) else value


def _times(values: dict[str, Any], plain: Mapping[str, str], where: str, cells: bool) -> dict[str, Any]:
    """Take the times out of `values`, and return offset and duration in seconds."""
    taken = {name: values.pop(plain[name]) for name in _TIMES if plain.get(name) in values}
    times = {name: _seconds(value, plain[name], where, cells) for name, value in taken.items() if value is not None}
    starts, ends = ([name for name in names if name in times] for names in (_START, _END))
    offsets = [*(["offset"] if "offset" in times else []), *starts]
    for names in (offsets, ends):
        if len({times[name] for name in names}) > 1:
            listed = " and ".join(f"'{plain[name]}' ({times[name]:g})" for name in names)
            raise InputError(f"{where}: {listed} contradict each other. Keep one of them, in seconds.")
    found = {"offset": times[offsets[0]]} if offsets else {}
    if "duration" in times:
        found["duration"] = times["duration"]
    if not ends:
        return found
    lasts = times[ends[0]] - found.get("offset", 0)
    if lasts <= 0:
        raise InputError(f"{where}: '{plain[ends[0]]}' must be after the start; got {times[ends[0]]:g}.")
    if abs(found.setdefault("duration", lasts) - lasts) > _TOLERANCE:
        raise InputError(
            f"{where}: 'duration' is {found['duration']:g}, but the utterance ends {lasts:g} s after its start. Keep "
            "one of them, in seconds."
        )
    return found


def _refuse_other_times(values: Mapping[str, Any], where: str) -> None:
    """Raise InputError if a further column seems to say which part of the file is meant, such as start_ms."""
    for key, value in values.items():
        words = set(plain_name(key).split("_"))
        text = str(value).replace(",", ".", 1)
        number = not isinstance(value, bool) and text.replace(".", "", 1).removeprefix("-").isdigit()
        if number and words & _TIME_WORDS and float(text) != 0:
            raise InputError(
                f"{where}: '{key}' ({value}) seems to say which part of the file is meant. Rename it to start, end, "
                "offset or duration, in seconds, or delete the column."
            )


def _seconds(given: Any, key: str, where: str, cells: bool) -> float:
    value: Any = given
    if cells and isinstance(given, str):
        with suppress(ValueError):
            value = float(given.replace(",", ".") if "." not in given else given)
    if not is_number(value) or not 0 <= value <= 1e7:
        raise InputError(f"{where}: '{key}' must be a number of seconds, at least 0; got {str(value)[:60]!r}.")
    return value


def _has(row: Row) -> str:
    return f"It has: {', '.join(sorted(map(str, row.values)))[:300] or 'none'}."
