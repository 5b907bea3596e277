"""Lhotse's cuts (cuts.jsonl, also compressed), read without lhotse: one utterance for each supervision of a cut."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapt.checks import is_number
from adapt.data.formats.rows import Row, Rows
from adapt.errors import InputError
from adapt.files import exists

_TOLERANCE = 0.01  # seconds by which a supervision may exceed its cut


def is_cut(row: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is one of lhotse's cuts."""
    return str(row.get("type", "")).endswith("Cut") or {"start", "duration", "recording", "supervisions"} <= row.keys()


def is_other(row: Mapping[str, Any]) -> str | None:
    """Return the kind of another manifest of lhotse's, which lacks audio or texts; None if it is not one."""
    if {"sources", "sampling_rate"} <= row.keys():
        return "recordings"
    return "supervisions" if {"recording_id", "start", "duration"} <= row.keys() else None


def cut_rows(rows: Rows, folder: Path, needs_text: bool = True) -> Rows:
    """Turn cuts into rows with the keys of our manifests.

    Relative audio paths start at `folder` or, as in lhotse, at the working folder.

    Args:
        rows: the cuts, as JSON objects.
        folder: the folder of the file.
        needs_text: whether cuts without supervisions are unusable.
    """
    for row in rows:
        if isinstance(row, InputError):
            yield row
            continue
        try:
            yield from _utterances(row, folder, needs_text)
        except InputError as error:
            yield error
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            yield InputError(f"{row.where}: this is not a complete cut of lhotse's ({type(error).__name__}: {error}).")


def _utterances(row: Row, folder: Path, needs_text: bool) -> list[Row]:
    cut, where = row.values, row.where
    kind = cut.get("type", "MonoCut")
    if kind != "MonoCut":
        raise InputError(f"{where}: a {kind} is not read, only a MonoCut. Save the cut's audio with lhotse first.")
    audio = _audio(cut, where, folder)
    start, duration = (_number(cut, key, where) for key in ("start", "duration"))
    supervisions = cut.get("supervisions") or []
    if not supervisions and needs_text:
        raise InputError(f"{where}: the cut '{cut.get('id')}' has no supervision, so no text.")
    base = {"audio_filepath": audio, "id": str(cut.get("id", ""))}
    if not supervisions:
        return [Row({**base, "text": "", "offset": start, "duration": duration}, where)]
    return [_supervised(base, one, start, duration, where) for one in supervisions]


def _supervised(base: dict[str, Any], one: Mapping[str, Any], start: float, duration: float, where: str) -> Row:
    first, length = (_number(one, key, where, signed=True) for key in ("start", "duration"))
    if first < -_TOLERANCE or first + length > duration + _TOLERANCE or length <= 0:
        raise InputError(
            f"{where}: the supervision '{one.get('id')}' (from {first:g} s to {first + length:g} s) goes beyond its "
            f"cut of {duration:g} s, which has not all of its words. Trim the cuts to their supervisions."
        )
    first = max(first, 0.0)
    custom = one.get("custom") or {}
    extra = {key: value for key, value in custom.items() if key not in ("text", "audio_filepath")}
    named = {"speaker": one.get("speaker"), "lang": one.get("language"), "gender": one.get("gender")}
    values = {
        **base,
        **extra,
        "id": str(one.get("id") or base["id"]),
        "text": one.get("text"),
        "offset": round(start + first, 6),
        "duration": round(min(length, duration - first), 6),
        **{key: value for key, value in named.items() if value is not None},
    }
    return Row(values, where)


def _audio(cut: Mapping[str, Any], where: str, folder: Path) -> str:
    recording = cut.get("recording")
    if not isinstance(recording, Mapping):
        raise InputError(f"{where}: the cut has no recording (only features?). Save the cuts with their recordings.")
    if recording.get("transforms"):
        raise InputError(f"{where}: the recording is changed by lhotse's transforms. Save its audio first.")
    sources = recording["sources"]
    if len(sources) != 1 or sources[0]["type"] != "file":
        kinds = ", ".join(str(source.get("type")) for source in sources)
        raise InputError(f"{where}: expected one audio file, got sources of type {kinds}. Nothing else is read or run.")
    if len(sources[0].get("channels", [0])) > 1:
        raise InputError(
            f"{where}: the cut is one channel of a file with {len(sources[0]['channels'])}. Write each channel to a "
            "file of its own."
        )
    path = str(sources[0]["source"])
    return path if not exists(folder / path) and exists(path) else str(folder / path)


def _number(values: Mapping[str, Any], key: str, where: str, signed: bool = False) -> float:
    value: Any = values.get(key)
    if not is_number(value) or abs(value) > 1e7 or (value < 0 and not signed):
        raise InputError(f"{where}: '{key}' must be a number of seconds; got {str(value)[:40]!r}.")
    return value
