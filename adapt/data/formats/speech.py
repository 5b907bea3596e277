"""Speech data in any format as rows with our own keys: audio_filepath, text, offset, duration, speaker, ..."""

from collections.abc import Callable, Iterator
from pathlib import Path

from adapt.data.formats.columns import Columns
from adapt.data.formats.documents import array_rows, object_rows
from adapt.data.formats.folders import text_rows
from adapt.data.formats.hf_audio import dataset_rows
from adapt.data.formats.json_values import parse_object
from adapt.data.formats.kaldi import kaldi_rows
from adapt.data.formats.lhotse import cut_rows
from adapt.data.formats.lines import read_lines
from adapt.data.formats.nemo_tar import tarred_rows
from adapt.data.formats.recognise import recognise
from adapt.data.formats.rows import Row, Rows, checked
from adapt.data.formats.table import table_rows
from adapt.errors import InputError


def speech_rows(path: Path, columns: Columns, needs_text: bool = True) -> tuple[Rows, Path]:
    """Return the rows of speech data in any format, and the folder at which their relative audio paths start.

    Args:
        path: a file or folder.
        columns: which columns to read.
        needs_text: whether a row without a text is unusable.

    Returns:
        The rows, as a stream: each with our own keys, or the error of a line that cannot be used.

    Raises:
        InputError: the path cannot be read, or has no known format.
    """
    found = recognise(path)
    file, base = found.path, found.path.parent
    if found.format in ("Kaldi folder", "audio with texts", "lhotse cuts"):
        _refuse_columns(columns, found.format, path)
    if found.format == "Kaldi folder":
        rows, base = kaldi_rows(path, columns.folder or path, needs_text), path
    elif found.format == "audio with texts":
        rows, base = text_rows(path), path
    elif found.format == "lhotse cuts":
        rows = cut_rows(json_line_rows(file), columns.folder or base, needs_text)
    elif found.format == "dataset":
        rows = dataset_rows(file, columns.audio)
        rows = _mapped(rows, lambda row: Columns("audio_filepath", columns.text).canonical(row, base, needs_text))
    elif found.format in ("JSON lines", "NeMo tarred manifest"):
        rows = _mapped(json_line_rows(file), lambda row: columns.canonical(row, base, needs_text, own=True))
        rows = tarred_rows(rows, file) if found.format == "NeMo tarred manifest" else rows
    elif found.format == "JSON array":
        rows = _mapped(array_rows(file), lambda row: columns.canonical(row, base, needs_text))
    elif found.format == "JSON object":
        rows = _mapped(object_rows(file), lambda row: columns.canonical(_in_seconds(row), base, needs_text))
    elif found.format == "TMX":
        raise InputError(f"'{path}' holds sentence pairs (TMX), not speech. Give it with data=pairs.")
    elif found.format == "audiofolder" and file.suffix == ".jsonl":
        rows = _mapped(json_line_rows(file), lambda row: columns.canonical(row, base, needs_text))
    else:
        cells = table_rows(file, columns.known())
        rows = _mapped(cells, lambda row: columns.canonical(row, base, needs_text, cells=True))
    return checked(rows), base


def _refuse_columns(columns: Columns, kind: str, path: Path) -> None:
    given: dict[str, object] = {"audio_column": columns.audio, "text_column": columns.text}
    if kind == "audio with texts":
        given["audio_folder"] = columns.folder
    wrong = next((name for name, value in given.items() if value is not None), None)
    if wrong is not None:
        raise InputError(
            f"data.{wrong} is for lists of audio files with columns, and '{path}' is {_A[kind]}. Leave it out."
        )


_A = {
    "Kaldi folder": "a Kaldi folder",
    "audio with texts": "a folder of audio with texts",
    "lhotse cuts": "lhotse's cuts",
}


def json_line_rows(path: Path, keys: str = "'audio_filepath' and 'text'", blank: bool = False) -> Rows:
    """Yield the objects of a JSON lines file.

    Args:
        path: the file.
        keys: the expected keys in words, for messages.
        blank: whether a blank line is a row without values; otherwise it is skipped.

    Raises:
        InputError: the file cannot be read.
    """
    for number, line in read_lines(path, "manifest"):
        where = f"{path}:{number}"
        if isinstance(line, InputError):
            yield line
        elif line.strip():
            try:
                yield Row(parse_object(line, where, keys), where)
            except InputError as error:
                yield error
        elif blank:
            yield Row({}, where)


def _mapped(rows: Rows, function: Callable[[Row], Row]) -> Iterator[Row | InputError]:
    for row in rows:
        try:
            yield function(row) if isinstance(row, Row) else row
        except InputError as error:
            yield error


def _in_seconds(row: Row) -> Row:
    if {"start", "stop"} & row.values.keys():
        raise InputError(
            f"{row.where}: 'start' and 'stop' are numbers of samples in SpeechBrain's format. Write 'offset' and "
            "'duration', in seconds."
        )
    return row
