"""Audio files and source sentences that a user names: files, folders, globs, manifests, standard input."""

import sys
from glob import glob
from pathlib import Path

from adapt.data.manifest import Utterance, read_manifest
from adapt.data.pairs import Pair, read_lines
from adapt.errors import InputError

AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


def find_audio(places: list[str], option: str = "audio") -> tuple[list[Utterance], list[str]]:
    """The utterances that files, folders, globs and manifests name, in their order, and a sentence on each bad line.
    `option` is what a user named them by.

    Raises:
        InputError: a place names no audio.
    """
    found: list[Utterance] = []
    problems: list[str] = []
    for place in map(str, places):
        path = Path(place).expanduser()
        if path.suffix == ".jsonl":
            utterances, bad_lines = read_manifest(path, needs_text=False)
            found += utterances
            problems += bad_lines
            continue
        if path.is_dir():
            paths = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO)
        else:
            paths = [path] if path.is_file() else [Path(name) for name in sorted(glob(str(path), recursive=True))]
        if not paths:
            raise InputError(
                f"{option}={place}: there is no such file, and no {', '.join(sorted(AUDIO))} in such a folder or glob."
            )
        found += [Utterance(path, "") for path in paths]
    return found, problems


def read_sources(place: str, option: str = "file") -> tuple[list[Pair], list[str]]:
    """The sources that a file holds, and a sentence on each bad line: `.jsonl` and `.tsv` as data for training (without
    targets), any other file a text a line, "-" standard input. An empty line of a text file is an empty source; so is a
    bad line of the others, which keeps its place without a `where`. `option` is what a user named them by.

    Raises:
        InputError: there is no such file, or it is not UTF-8 text.
    """
    path = Path(place).expanduser()
    if path.suffix.lower() in (".jsonl", ".tsv"):
        lines = read_lines(path, needs_target=False)
        problems = [str(line) for line in lines if not isinstance(line, Pair)]
        return [line if isinstance(line, Pair) else Pair("") for line in lines], problems
    if place != "-" and not path.is_file():
        raise InputError(f"{option}={place}: there is no such file. Expected a text a line, .jsonl or .tsv.")
    name = "standard input" if place == "-" else place
    try:
        text = (sys.stdin.buffer.read() if place == "-" else path.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{option}={place} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    lines = text.removesuffix("\n").split("\n") if text else []
    return [Pair(line.rstrip("\r"), "", where=f"{name}:{number}") for number, line in enumerate(lines, start=1)], []
