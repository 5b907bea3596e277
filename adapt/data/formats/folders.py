"""Folders of audio files with a text beside each: NAME.txt, or the *.trans.txt files of LibriSpeech."""

import logging
import os
from pathlib import Path

from adapt.data.formats.lines import read_lines
from adapt.data.formats.rows import Row, Rows
from adapt.errors import InputError
from adapt.files import is_file, name_problem, shown

log = logging.getLogger(__name__)

# By these suffixes, folders are searched for audio. Any file that can be read may have another suffix.
AUDIO_SUFFIXES = (
    ".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".flac", ".flv",
    ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".oga", ".ogg", ".ogv",
    ".opus", ".rf64", ".snd", ".sph", ".spx", ".tta", ".voc", ".w64", ".wav", ".webm", ".wma", ".wmv", ".wv",
)  # fmt: skip
_LONGEST = 1 << 16  # bytes of a text beside an audio file


def is_audio_name(name: str) -> bool:
    """Return whether a file name ends as audio files do."""
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def text_rows(folder: Path) -> Rows:
    """Yield the audio files below a folder with the texts beside them, in the order of their names.

    An audio file without a text, and a line of a *.trans.txt without its audio file, become errors. The names of
    further text files are logged.
    """
    unused: list[str] = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        audio = sorted(name for name in names if is_audio_name(name) and not name.startswith("."))
        listed = [name for name in sorted(names) if name.endswith(".trans.txt")]
        stems: dict[str, list[str]] = {}
        for name in audio:
            stems.setdefault(os.path.splitext(name)[0], []).append(name)
        for name in listed:
            yield from _listed(Path(place), name, stems)
        texts = {os.path.splitext(name)[0]: name for name in names if name.lower().endswith(".txt")}
        for stem, files in sorted(stems.items()):
            for name in files:
                yield _beside(Path(place), name, texts.get(stem))
        unused += [os.path.join(place, texts[stem]) for stem in sorted(texts) if stem not in stems and audio]
    unused = [name for name in unused if not name.endswith(".trans.txt")]
    if unused:
        log.warning("%d text files have no audio file beside them, such as %s.", len(unused), shown(unused[0]))


def holds_texts(folder: Path) -> bool:
    """Return whether a folder has audio files with texts beside them, here or in the first folders below."""
    for _, folders, names in os.walk(folder):
        folders.sort()
        stems = {os.path.splitext(name)[0] for name in names if is_audio_name(name)}
        if stems:
            return any(name.endswith(".trans.txt") or os.path.splitext(name)[0] in stems for name in names
                       if name.lower().endswith(".txt"))  # fmt: skip
    return False


def _beside(place: Path, name: str, text: str | None) -> Row | InputError:
    audio = place / name
    problem = name_problem(audio)
    if problem is not None:
        return InputError(f"{problem[0].upper()}{problem[1:]}.")
    if text is None:
        return InputError(f"{audio}: there is no text beside it. Write it to '{audio.with_suffix('.txt').name}'.")
    path = place / text
    try:
        if not is_file(path) or path.stat().st_size > _LONGEST:
            raise InputError(f"{path}: expected the text of one recording, of at most {_LONGEST:,} bytes.")
        words = [_whole(line) for _, line in read_lines(path)]
    except InputError as error:
        return error
    return Row({"audio_filepath": str(audio.absolute()), "text": " ".join(" ".join(words).split())}, f"{path}:1")


def _listed(place: Path, name: str, stems: dict[str, list[str]]) -> Rows:
    """Yield the lines of a *.trans.txt file: ID TEXT. Their audio files are taken out of `stems`."""
    path = place / name
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        if isinstance(line, InputError):
            yield line
            continue
        stem, _, text = line.strip().partition(" ")
        if not stem:
            continue
        files = stems.pop(stem, [])
        if len(files) != 1:
            count = "no audio file" if not files else "several audio files"
            yield InputError(f"{where}: there is {count} '{stem}.*' beside it.")
        else:
            values = {"audio_filepath": str((place / files[0]).absolute()), "text": text.strip(), "id": stem}
            yield Row(values, where)


def _whole(line: str | InputError) -> str:
    if isinstance(line, InputError):
        raise line
    return line
