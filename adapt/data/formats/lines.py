"""The lines of text files: UTF-8, with or without a mark, UTF-16 or Windows-1252, plain or compressed by gzip."""

import codecs
import gzip
import io
import logging
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from adapt.errors import InputError
from adapt.files import file_problem, has_surrogate, shown

log = logging.getLogger(__name__)

LONGEST = 1 << 24  # characters of a line
LARGEST = 1 << 30  # characters of a JSON document; JSON lines have no such limit
_BLOCK = 1 << 20  # bytes
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"))
_MARKS += ((codecs.BOM_UTF16_BE, "utf-16"),)
_NO_TEXT = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive. Save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook. Save the table as CSV"),
    (b"%PDF", "a PDF"),
    (b"RIFF", "audio. Give a manifest, or the folder of the audio files"),
    (b"fLaC", "audio. Give a manifest, or the folder of the audio files"),
    (b"OggS", "audio. Give a manifest, or the folder of the audio files"),
    (b"ID3", "audio. Give a manifest, or the folder of the audio files"),
    (b"SQLite format 3", "a database"),
)
_VALID, _BROKEN = re.compile("[\x80-\ud7ff\ue000-\U0010ffff]"), re.compile("[\udc80-\udcff]")
_NOT_1252 = {chr(0xDC00 + byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
_warned: set[tuple[Path, str]] = set()


def read_lines(path: Path, what: str = "file") -> Iterator[tuple[int, str | InputError]]:
    """Yield each line of a text file with its number, without its line end. The file is read as a stream.

    A line that is not valid UTF-8 (in a file that otherwise is) or longer than `LONGEST` becomes an InputError.

    Args:
        path: the file.
        what: what the file should be, for messages.

    Raises:
        InputError: the file cannot be read, or is not text.
    """
    for number, line in enumerate(_raw_lines(path, what), start=1):
        if line is None:
            yield number, InputError(f"{path}:{number}: the line has more than {LONGEST:,} characters.")
        elif has_surrogate(line):
            yield number, InputError(f"{path}:{number}: the line is not UTF-8 text. Correct it, or save it as UTF-8.")
        else:
            yield number, line


def read_text(path: Path, what: str = "file", most: int | None = None) -> str:
    """Return the text of a file, or its first `most` characters.

    Raises:
        InputError: the file cannot be read, is not text, or has more than `LARGEST` characters.
    """
    encoding, _ = _encoding(path, what)
    size = LARGEST if most is None else most
    try:
        with io.TextIOWrapper(
            cast(IO[bytes], open_bytes(path)), encoding=encoding, errors="surrogateescape", newline=""
        ) as file:
            text = _read(file, size)
            if most is None and file.read(1):
                raise InputError(
                    f"{shown(path)} is a JSON document of more than {LARGEST:,} characters. Write it as JSON "
                    "lines: one object per line."
                )
    except UnicodeDecodeError as error:
        raise InputError(f"The file {shown(path)} is not {encoding} text ({error.reason}). Save it as UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None
    return text.replace("\r\n", "\n")


def _read(file: IO[str], most: int) -> str:
    """Return at most so many characters. One call of `read` would reserve memory for all of them beforehand."""
    parts: list[str] = []
    while most > 0 and (part := file.read(min(most, _BLOCK))):
        parts.append(part)
        most -= len(part)
    return "".join(parts)


def read_head(path: Path, what: str = "file", size: int = 1 << 16) -> bytes:
    """Return the first bytes of a file, unpacked if it is compressed by gzip. Raises InputError."""
    problem = file_problem(path, what)
    if problem is not None:
        raise InputError(f"{problem[0].upper()}{problem[1:]}.")
    try:
        with open_bytes(path) as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, or what a file compressed by gzip contains."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def _raw_lines(path: Path, what: str) -> Iterator[str | None]:
    """Yield the lines; None for one that is too long."""
    encoding, newline = _encoding(path, what)
    try:
        with io.TextIOWrapper(
            cast(IO[bytes], open_bytes(path)), encoding=encoding, errors="surrogateescape", newline=newline
        ) as file:
            while line := file.readline(LONGEST + 2):
                too_long = len(line) > LONGEST + 1
                while len(line) > LONGEST and not line.endswith(newline) and (line := file.readline(LONGEST)):
                    pass
                yield None if too_long else line.removesuffix(newline).removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(f"The file {shown(path)} is not {encoding} text ({error.reason}). Save it as UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None


def _encoding(path: Path, what: str) -> tuple[str, str]:
    """Return the encoding and the line end of a text file, and warn once of any encoding but UTF-8."""
    head = read_head(path, what)
    for start, kind in _NO_TEXT:
        if head.startswith(start):
            raise InputError(f"{shown(path)} is {kind}.")
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None) or _without_mark(path, head)
    if encoding not in ("utf-8", "utf-8-sig"):
        _warn(path, {"cp1252": "Windows-1252 (Western European)", "latin-1": "Latin-1"}.get(encoding, encoding.upper()))
    text = head.decode(encoding, errors="ignore")
    return encoding, "\r" if "\r" in text and "\n" not in text and len(head) < 1 << 16 else "\n"


def _without_mark(path: Path, head: bytes) -> str:
    zeros = [head[side::2].count(0) for side in (0, 1)]
    if max(zeros) > len(head) / 5 and min(zeros) < max(zeros) / 10:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    if sum(zeros):
        raise InputError(f"{shown(path)} is not a text file: it contains NUL bytes.")
    valid, broken, found = 0, 0, set[str]()
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    try:
        with open_bytes(path) as file:
            while block := file.read(_BLOCK):
                text = decoder.decode(block)
                if not text.isascii():
                    bad = _BROKEN.findall(text)
                    valid, broken, found = valid + len(_VALID.findall(text)), broken + len(bad), found | set(bad)
            broken += len(_BROKEN.findall(decoder.decode(b"", final=True)))
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None
    # A file with a damaged line has far more letters that are UTF-8 than bytes that are not.
    if not broken or valid > broken:
        return "utf-8"
    return "latin-1" if found & _NOT_1252 else "cp1252"


def _warn(path: Path, encoding: str) -> None:
    if (path, encoding) not in _warned:
        _warned.add((path, encoding))
        log.warning("%s was read as %s, not UTF-8. If letters are wrong, save it as UTF-8.", shown(path), encoding)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{shown(path)} cannot be read ({error}). Copy it again, or check its permissions.")
