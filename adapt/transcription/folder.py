"""Transcribe many recordings into a folder: a file for each recording and format, and a list of what is done.

The list, `transcribed.jsonl`, tells for each recording what its transcript was made with. A recording whose line still
holds is not transcribed again.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.checks import check_flag
from adapt.data.audio_file import open_audio
from adapt.data.loader import Loader
from adapt.data.manifest import Utterance
from adapt.data.splits import OnError, stop_or_skip
from adapt.errors import InputError
from adapt.files import file_problem, is_file, make_folder, shown
from adapt.models.model import Model
from adapt.progress import seconds_bar
from adapt.transcription.formats import LINES, WIDTH, as_text, check_formats, write_transcript
from adapt.transcription.transcribe import Decoding, transcribe_recordings
from adapt.transcription.transcript import Transcript

LIST = "transcribed.jsonl"


@dataclass
class FolderResult:
    """What `transcribe_into` did.

    Attributes:
        written: The files that were written, in order.
        skipped: The recordings that were done before.
        problems: A sentence for each recording that cannot be read.
    """

    written: list[Path] = field(default_factory=list)
    skipped: list[Utterance] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def transcribe_into(
    folder: Path | str,
    model: Model,
    utterances: Sequence[Utterance],
    formats: Sequence[str] = ("txt",),
    *,
    vad: bool = True,
    decoding: Decoding = "pieces",
    loader: Loader | None = None,
    width: int = WIDTH,
    lines: int = LINES,
    overwrite: bool = False,
    on_error: OnError = "stop",
    made_with: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> FolderResult:
    """Transcribe recordings into a folder.

    A recording's files have its name, below the folders in which the recordings differ. If two still have the same
    name, theirs have the suffix too. A recording that is given twice is transcribed once.

    Args:
        folder: The folder; it is created if it does not exist.
        model: A speech recogniser.
        utterances: The recordings.
        formats: Some of `adapt.transcription.formats.FORMATS`.
        vad: See `transcribe_recordings`.
        decoding: See `transcribe_recordings`.
        loader: See `transcribe_recordings`.
        width: The longest line of a subtitle, in characters.
        lines: The largest number of lines of a subtitle.
        overwrite: Whether to replace transcripts that were made with something else.
        on_error: Whether to stop at recordings that cannot be read, or to skip them.
        made_with: Values that the transcripts depend on besides: the model and its corrections.
        report: Called with a sentence for each recording that is finished, or was before.

    Returns:
        What was done.

    Raises:
        InputError: a recording cannot be read and `on_error` is "stop" (all transcripts before are kept), there are
            files that would be overwritten, or an option is out of range.
    """
    check_formats(formats)
    check_flag("overwrite", overwrite)
    as_text(Transcript("", 0.0, None, ()), "srt", width, lines)  # checks the numbers
    result = FolderResult(problems=[problem for one in utterances if (problem := _unreadable(one)) is not None])
    stop_or_skip(result.problems, on_error, "on_error")
    make_folder(folder)
    folder = Path(folder)
    options = {"vad": vad, "decoding": decoding, "width": width, "lines": lines, **(made_with or {})}
    known = _read_list(folder / LIST)
    todo: list[tuple[Utterance, str]] = []
    for utterance, name in _named([one for one in utterances if _unreadable(one) is None], known):
        files = [folder / f"{name}.{format}" for format in formats]
        entry = known.get(_key(utterance))
        if entry is not None and entry["made"] == _made(utterance, options) and all(map(is_file, files)):
            result.skipped.append(utterance)
            report(f"{shown(utterance.audio_filepath)} was transcribed before.")
            continue
        there = [file for file in files if os.path.lexists(file)]
        if there and not overwrite and not (entry is not None and entry["made"] == _made(utterance, options)):
            raise InputError(
                f"output={folder}: there is '{there[0].name}' already, which was not made from "
                f"{shown(utterance.audio_filepath)} with this model and these options. Give another output, or "
                "overwrite=true."
            )
        todo.append((utterance, name))
    with seconds_bar("transcribing", sum(map(_seconds, (one for one, _ in todo)))) as advance:
        found = transcribe_recordings(
            model, [one for one, _ in todo], vad=vad, decoding=decoding, loader=loader, progress=advance
        )
        for number, transcript in found:
            utterance, name = todo[number]
            if isinstance(transcript, InputError):
                problem = str(transcript)
                stop_or_skip([problem], on_error, "on_error")
                result.problems.append(problem)
                continue
            for format in formats:
                path = folder / f"{name}.{format}"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_transcript(path, transcript, width, lines)
                result.written.append(path)
            _add(folder / LIST, {"audio": _key(utterance), "name": name, "made": _made(utterance, options)})
            report(f"{shown(utterance.audio_filepath)}: {len(transcript.words)} words in {transcript.seconds:.1f} s.")
    return result


def _unreadable(utterance: Utterance) -> str | None:
    """Return why a recording cannot be opened, as a sentence; damage further on is found when it is read."""
    prefix = f"{utterance.where}: " if utterance.where else ""
    problem = file_problem(utterance.audio_filepath, "audio file")
    if problem is not None:
        return f"{prefix}{problem}."
    try:
        with open_audio(utterance.audio_filepath):
            return None
    except InputError as error:
        return f"{prefix}{error}"


def _seconds(utterance: Utterance) -> float:
    if utterance.duration is not None:
        return utterance.duration
    with open_audio(utterance.audio_filepath) as source:
        return max(0.0, (source.announced or 0.0) - utterance.offset)


def _named(utterances: Sequence[Utterance], known: Mapping[str, Mapping[str, Any]]) -> list[tuple[Utterance, str]]:
    """Return each recording once, with the name of its files, without suffix. Recordings of the list keep theirs.

    Raises:
        InputError: two recordings would have the same files.
    """
    utterances = list({_key(one): one for one in utterances}.values())
    paths = [Path(os.path.abspath(one.audio_filepath)) for one in utterances]
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    short = [
        _with_part(path.relative_to(root).with_suffix(""), one) for path, one in zip(paths, utterances, strict=True)
    ]
    count = Counter(short)
    named: dict[str, Utterance] = {str(known[key]["name"]): one for one in utterances if (key := _key(one)) in known}
    for path, one, name in zip(paths, utterances, short, strict=True):
        if _key(one) in known:
            continue
        if count[name] > 1 or name in named:
            name = _with_part(path.relative_to(root), one)
        if name in named:
            raise InputError(
                f"{shown(named[name].audio_filepath)} and {shown(path)} would both be written to '{name}'. Give them "
                "different names, or give output=... for each."
            )
        named[name] = one
    names = {_key(one): name for name, one in named.items()}
    return [(one, names[_key(one)]) for one in utterances]


def _with_part(path: Path, utterance: Utterance) -> str:
    if not utterance.offset and utterance.duration is None:
        return str(path)
    end = "" if utterance.duration is None else f"{utterance.offset + utterance.duration:.2f}"
    return f"{path}_{utterance.offset:.2f}-{end}"


def _key(utterance: Utterance) -> str:
    return _with_part(Path(os.path.abspath(utterance.audio_filepath)), utterance)


def _made(utterance: Utterance, options: Mapping[str, Any]) -> dict[str, Any]:
    stat = utterance.audio_filepath.stat()
    return {"size": stat.st_size, "modified": stat.st_mtime_ns, "lang": utterance.lang, **options}


def _read_list(path: Path) -> dict[str, dict[str, Any]]:
    if not is_file(path):
        return {}
    entries: dict[str, dict[str, Any]] = {}
    owners: dict[str, str] = {}  # the recording that was written to the files of a name last
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            name = Path(str(entry["name"]))
            if isinstance(entry["made"], dict) and not name.is_absolute() and ".." not in name.parts:
                entries.pop(owners.get(str(name), ""), None)  # whose files another recording has replaced
                entries[str(entry["audio"])] = entry
                owners[str(name)] = str(entry["audio"])
        except (ValueError, KeyError, TypeError):  # cut short by a full disk or a power failure
            continue
    return entries


def _add(path: Path, entry: Mapping[str, Any]) -> None:
    # A newline comes before each further line: one that was cut short must not spoil the next.
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(("\n" if file.tell() else "") + json.dumps(entry, ensure_ascii=False))
        file.flush()
        os.fsync(file.fileno())
