"""Kaldi's data folders: wav.scp, text, utt2spk and segments. Commands in wav.scp are refused, never executed."""

import re
from collections.abc import Iterator
from pathlib import Path

from adapt.data.formats.lines import read_lines
from adapt.data.formats.rows import Row, Rows
from adapt.errors import InputError
from adapt.files import exists, is_file

_PER_UTTERANCE = {"utt2spk": "speaker", "utt2lang": "lang", "utt2accent": "accent"}


def kaldi_rows(folder: Path, audio_folder: Path, needs_text: bool = True) -> Rows:
    """Yield the utterances of a Kaldi folder: one for each line of segments, or of wav.scp if there are no segments.

    Args:
        folder: the folder.
        audio_folder: where relative audio paths start, or, as in Kaldi's recipes, at the working folder.
        needs_text: whether an utterance without a line in `text` is unusable.

    Raises:
        InputError: a file is missing, or a line of `text` or `utt2spk` has no text.
    """
    _check_channels(folder)
    facts = {
        key: _table(folder / name) for name, key in {"text": "text", **_PER_UTTERANCE}.items() if is_file(folder / name)
    }
    if needs_text and "text" not in facts:
        raise InputError(f"The Kaldi folder '{folder}' has no file 'text' with the transcripts.")
    unused = {name: where for name, (_, where) in facts.get("text", {}).items()}
    for row in _segments(folder, audio_folder) if is_file(folder / "segments") else _recordings(folder, audio_folder):
        if isinstance(row, InputError):
            yield row
            continue
        name = row.values["id"]
        unused.pop(name, None)
        own = {key: values[name][0] for key, values in facts.items() if name in values}
        if needs_text and "text" not in own:
            yield InputError(f"{row.where}: the utterance '{name}' has no line in '{folder / 'text'}'.")
        else:
            yield Row({**row.values, **own}, row.where)
    for name, where in unused.items():
        yield InputError(f"{where}: the utterance '{name}' has no audio in '{folder}'.")


def _recordings(folder: Path, audio_folder: Path) -> Rows:
    for name, rest, where in _lines(folder / "wav.scp"):
        problem = _audio_problem(rest)
        if problem is not None:
            yield InputError(f"{where}: {problem}")
        else:
            yield Row({"audio_filepath": _audio(audio_folder, rest), "id": name}, where)


def _segments(folder: Path, audio_folder: Path) -> Rows:
    recordings: dict[str, Row] = {}
    for row in _recordings(folder, audio_folder):
        if isinstance(row, InputError):
            yield row
        else:
            recordings[row.values["id"]] = row
    for name, rest, where in _lines(folder / "segments"):
        parts = rest.split()
        try:
            start, end = map(float, parts[1:3])
            if len(parts) not in (3, 4) or start < 0 or not start < end < 1e7:
                raise ValueError
        except ValueError:
            yield InputError(f"{where}: expected UTTERANCE RECORDING START END, in seconds; got '{rest[:80]}'.")
            continue
        if parts[0] in recordings:
            audio = recordings[parts[0]].values["audio_filepath"]
            yield Row({"audio_filepath": audio, "id": name, "offset": start, "duration": round(end - start, 6)}, where)
        else:
            yield InputError(f"{where}: the recording '{parts[0]}' has no usable line in '{folder / 'wav.scp'}'.")


def _audio_problem(rest: str) -> str | None:
    if rest.endswith("|") or rest.startswith("|"):
        return (
            f"'{rest[:80]}' is a command. Commands are never executed. Run it yourself, and name the audio file that "
            "it writes."
        )
    if re.search(r"\.ark(:\d+)?$", rest):
        return f"'{rest[:80]}' is in a Kaldi archive. Write the audio to files (wav-copy)."
    return None if rest else "the line names no audio file."


def _audio(folder: Path, name: str) -> str:
    return name if not exists(folder / name) and exists(name) and not name.startswith("~") else str(folder / name)


def _check_channels(folder: Path) -> None:
    file = folder / "reco2file_and_channel"
    if not is_file(file):
        return
    for _, rest, where in _lines(file):
        if rest.split()[-1:] not in (["A"], ["1"], ["0"]):
            raise InputError(
                f"{where}: recordings with several channels are not read. Write each to a file of its own."
            )


def _table(path: Path) -> dict[str, tuple[str, str]]:
    """Return the value and the place of each identifier. Raises InputError if one is there twice."""
    found: dict[str, tuple[str, str]] = {}
    for name, rest, where in _lines(path):
        if name in found:
            raise InputError(f"{where}: the utterance '{name}' is there twice, first in {found[name][1]}.")
        if rest:
            found[name] = rest, where
    return found


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in read_lines(path):
        if isinstance(line, InputError):
            raise line
        if line.strip():
            name, *rest = line.split(maxsplit=1)
            yield name, rest[0].strip() if rest else "", f"{path}:{number}"
