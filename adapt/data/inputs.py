"""Inputs to transcribe or translate: files, folders, globs, manifests, standard input, arrays and sentences."""

import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from adapt.data.formats.folders import AUDIO_SUFFIXES
from adapt.data.formats.recognise import recognise
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.pairs import Pair, read_lines
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.files import file_problem, is_file, is_folder, name_problem, user_path

MANIFEST_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_NAMED = 5  # files that a message names

log = logging.getLogger(__name__)
AudioInput = str | Path | np.ndarray | Tensor | Utterance | Recording


def as_utterances(
    inputs: AudioInput | Iterable[AudioInput], sample_rate: int | None = None
) -> list[Utterance | Recording]:
    """Turn audio inputs into examples, one for each input, in their order.

    Args:
        inputs: audio files, arrays `(samples,)` (numpy or torch; float from -1 to 1, or int16), utterances or
            recordings; or a single one of these. `find_audio` expands folders, globs and manifests.
        sample_rate: the sample rate of the arrays, in Hz.

    Raises:
        InputError: a file does not exist, an array is not mono audio or has no sample rate, or an input is of a type
            that is not supported.
    """
    if isinstance(inputs, AudioInput) or not isinstance(inputs, Iterable):
        inputs = [inputs]
    return [_as_utterance(value, f"input {number}", sample_rate) for number, value in enumerate(inputs, start=1)]


def _as_utterance(value: Any, where: str, sample_rate: int | None) -> Utterance | Recording:
    if isinstance(value, (Utterance, Recording)):
        return value
    if isinstance(value, (str, Path)):
        path = user_path(value)
        problem = file_problem(path, "audio file")
        if problem is not None:
            raise InputError(f"{where}: {problem}.")
        return Utterance(path, "", where=where)
    if isinstance(value, (np.ndarray, Tensor)):
        if sample_rate is None:
            raise InputError(f"{where} is an array, and its sample rate is not known. Pass sample_rate=16_000, say.")
        samples = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        return Recording(samples, sample_rate, name=where, where=where)
    raise InputError(
        f"{where}: expected an audio file, an array (samples,), an Utterance or a Recording, got "
        f"{type(value).__name__}."
    )


def as_pairs(inputs: str | Pair | Iterable[str | Pair]) -> list[Pair]:
    """Turn source sentences into examples, one for each sentence, in their order.

    Raises:
        InputError: an input is neither a string nor a `Pair`.
    """
    if isinstance(inputs, (Mapping, set, bytes)):
        raise InputError(f"texts must be a sentence, a Pair, or a list of these; got a {type(inputs).__name__}.")
    if isinstance(inputs, (str, Pair)) or not isinstance(inputs, Iterable):
        inputs = [inputs]
    pairs = []
    for number, value in enumerate(inputs, start=1):
        if not isinstance(value, (str, Pair)):
            raise InputError(f"text {number}: expected a text or a Pair, got {type(value).__name__}.")
        pairs.append(value if isinstance(value, Pair) else Pair(value, where=f"text {number}"))
    return pairs


def find_audio(places: Sequence[Path | str], argument: str = "audio") -> tuple[list[Utterance], list[str]]:
    """Return the utterances in files, folders, globs and manifests, in the order given.

    Args:
        places: paths and globs. Folders are searched with all their subfolders, for files with an audio suffix; a
            log message names the other files. Hidden files are left out without one. A manifest is a file that
            `adapt.data.manifest.read_manifest` reads and that ends in one of `MANIFEST_SUFFIXES`; texts are not needed.
        argument: the name of the caller's argument, for error messages.

    Returns:
        The utterances, and one sentence for each manifest line that cannot be used.

    Raises:
        InputError: one of `places` has no audio.
    """
    audio: list[Utterance] = []
    problems: list[str] = []
    for place in map(str, places):
        path = user_path(place)
        if path.name.lower().removesuffix(".gz").endswith(MANIFEST_SUFFIXES):
            utterances, bad_lines = read_manifest(path, needs_text=False)
            audio += utterances
            problems += bad_lines
            continue
        paths = _in_folder(path) if is_folder(path) else [path] if is_file(path) else _matching(path)
        if not paths:
            raise InputError(
                f"{argument}={place}: there is no such file, and no folder or glob of that name with audio in it. "
                f"Audio files end in {', '.join(AUDIO_SUFFIXES)}."
            )
        for path in paths:
            problem = file_problem(path, "audio file")
            if problem is None:
                audio.append(Utterance(path, ""))
            else:
                problems.append(f"{argument}: {problem}.")
    return audio, problems


def is_bare_audio(place: Path | str, texts_wanted: bool = False) -> bool:
    """Return whether a place is audio without a manifest: an audio file, a glob, or a folder of audio.

    Args:
        place: the path or glob.
        texts_wanted: whether a folder with texts beside its audio is to be read with them.
    """
    path = user_path(place)
    if is_folder(path):
        try:
            return recognise(path).format == "audio with texts" and not texts_wanted
        except InputError:
            return _audio_below(path)
    return path.suffix.lower() in AUDIO_SUFFIXES if is_file(path) else bool(_matching(path))


def _audio_below(folder: Path) -> bool:
    return any(file.suffix.lower() in AUDIO_SUFFIXES and not _hidden(file, folder) for file in folder.rglob("*"))


def _in_folder(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if not is_folder(file) and not _hidden(file, folder))
    audio = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
    others = [str(file) for file in files if file.suffix.lower() not in AUDIO_SUFFIXES]
    if audio and others:
        more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
        log.warning(
            "Skipped %d of %d files in '%s', because their names do not end like audio (.wav, .m4a, ...): %s%s",
            len(others), len(files), folder, ", ".join(others[:_NAMED]), more,
        )  # fmt: skip
    return audio


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _matching(path: Path) -> list[Path]:
    if name_problem(path) is not None:
        return []
    return [Path(name) for name in sorted(glob(str(path), recursive=True))] or ([path] if os.path.lexists(path) else [])


def read_sources(place: Path | str, argument: str = "file") -> tuple[list[Pair], list[str]]:
    """Read source sentences from a file, or from standard input if `place` is "-".

    `.jsonl`, `.json`, `.csv`, `.tsv` and `.tmx` files have the format of training data (`adapt.data.pairs`), with or
    without targets. Any other file has one sentence per line. An empty line becomes a pair with an empty source. A bad
    line of a file of the first kind becomes one with an empty source and an empty `where`. So pair n always belongs to
    line n.

    Args:
        place: the file, or "-".
        argument: the name of the caller's argument, for error messages.

    Returns:
        The pairs, and one sentence for each bad line.

    Raises:
        InputError: the file does not exist or is not UTF-8 text.
    """
    place = str(place)
    path = user_path(place)
    if path.name.lower().removesuffix(".gz").endswith((*MANIFEST_SUFFIXES, ".tmx")):
        lines = read_lines(path, needs_target=False)
        problems = [str(line) for line in lines if not isinstance(line, Pair)]
        return [line if isinstance(line, Pair) else Pair("") for line in lines], problems
    problem = None if place == "-" else file_problem(path, "such file")
    if problem is not None:
        raise InputError(f"{argument}={place}: {problem}. Expected one text per line, .jsonl, .csv, .tsv or .tmx.")
    name = "standard input" if place == "-" else place
    try:
        text = (sys.stdin.buffer.read() if place == "-" else path.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{argument}={place} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    lines = text.removesuffix("\n").split("\n") if text else []
    return [Pair(line.rstrip("\r"), "", where=f"{name}:{number}") for number, line in enumerate(lines, start=1)], []
