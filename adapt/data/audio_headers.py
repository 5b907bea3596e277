"""Compare how much audio a file's header announces with how much is there, to recognise files that were cut off."""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adapt.errors import InputError

# Sizes that recorders write when they cannot know the length in advance: none, the largest number (FFmpeg), and that of
# sox and espeak.
_STREAMED = (0, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF)
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_OGG_LONGEST_PAGE = 27 + 255 + 255 * 255  # bytes


@dataclass(frozen=True)
class Extent:
    """The bytes of audio that are in a file, and how many its header announces; None if it does not say how many.

    `certain` tells whether the end is surely missing.
    """

    there: int
    announced: int | None
    certain: bool = True


def find_cut(path: Path) -> Extent | None:
    """Return what is left of a file whose end is missing, judged by its container; None if nothing seems to be missing.

    This knows WAV, RF64, W64, AIFF, AU, CAF, VOC, NIST Sphere, AVI, Ogg, MP4, Matroska and ASF. FLAC and MP3 files have
    to be decoded. Up to 128 bytes may be missing, because some programs count their header or a padding byte too much.
    """
    with open(path, "rb") as file:
        try:
            head = file.read(256)
        except OSError as error:  # a disk that fails, or a special file of the system
            raise InputError(f"'{path}' cannot be read ({error.strerror}). Copy it again, or leave it out.") from None
        size = os.fstat(file.fileno()).st_size
        if head.startswith(b"OggS"):
            return _ogg(file, size)
        spans = _spans(file, head, size)
        for start, announced in spans:
            there = max(0, size - start)
            if announced not in _STREAMED and announced > there + min(128, announced // 10):
                return Extent(there, announced)
    return None


def _spans(file: BinaryIO, head: bytes, size: int) -> Iterator[tuple[int, int]]:
    # Yields (start, announced bytes) of what holds the audio.
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        yield from _wave(file, size, ">" if head[:4] == b"RIFX" else "<")
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        yield 8, int.from_bytes(head[4:8], "little")
    elif head[:19] == b"Creative Voice File":
        yield from _voice(file, size, int.from_bytes(head[20:22], "little"))
    elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        yield from ((at, length) for name, at, length in _chunks(file, size, 12, ">4sI") if name == b"SSND")
    elif head[:4] in (b".snd", b"dns."):
        yield struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12].ljust(8, b"\0"))
    elif head[:4] == b"caff":
        yield from ((at, length) for name, at, length in _chunks(file, size, 8, ">4sQ", 1) if name == b"data")
    elif head[:16] in (_W64_RIFF, _ASF_HEADER):
        yield from _guids(file, size, head[:16])
    elif head[:7] == b"NIST_1A":
        yield from _nist(file)
    elif head[4:8] == b"ftyp":
        yield from _boxes(file, size)
    elif head[:4] == b"\x1aE\xdf\xa3":
        yield from _segment(head)


def _chunks(file: BinaryIO, size: int, start: int, layout: str, padding: int = 2) -> Iterator[tuple[bytes, int, int]]:
    # Yields (name, start, length) of each chunk with a head of this `layout`; chunks start at multiples of `padding`.
    width = struct.calcsize(layout)
    while start + width <= size:
        file.seek(start)
        name, length = struct.unpack(layout, file.read(width))
        yield name, start + width, length
        start += width + length + -length % padding


def _wave(file: BinaryIO, size: int, order: str) -> Iterator[tuple[int, int]]:
    long_size = None
    for name, start, length in _chunks(file, size, 12, f"{order}4sI"):
        if name == b"ds64":
            file.seek(start + 8)
            (long_size,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if name == b"data":
            yield start, long_size if length == 0xFFFFFFFF and long_size is not None else length
            return


def _guids(file: BinaryIO, size: int, first: bytes) -> Iterator[tuple[int, int]]:
    # W64 and ASF: chunks named by 16 bytes; the length includes this name and itself.
    is_w64 = first == _W64_RIFF
    start = 40 if is_w64 else 0
    while start + 24 <= size:
        file.seek(start)
        name, length = struct.unpack("<16sQ", file.read(24))
        if name == _ASF_DATA or name[:4] == b"data":
            yield start + 24, max(0, length - 24)
            return
        start += max(24, length + (-length % 8 if is_w64 else 0))


def _voice(file: BinaryIO, size: int, start: int) -> Iterator[tuple[int, int]]:
    # VOC: blocks with a type and a length of 3 bytes; type 0 ends the file.
    while start + 4 <= size:
        file.seek(start)
        block = file.read(4)
        if not block[0]:
            return
        length = int.from_bytes(block[1:], "little")
        yield start + 4, length
        start += 4 + length


def _nist(file: BinaryIO) -> Iterator[tuple[int, int]]:
    file.seek(0)
    text = file.read(4096).decode("latin-1")
    names = ("sample_count", "sample_n_bytes", "channel_count")
    found = [re.search(rf"{name} -i (\d+)", text) for name in names]
    header = re.match(r"NIST_1A\n\s*(\d+)", text)
    if header and all(found):
        count, width, channels = (int(one[1]) for one in found if one)
        yield int(header[1]), count * width * channels


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start + 16 <= size:
        file.seek(start)
        length, _, long_length = struct.unpack(">I4sQ", file.read(16))
        length = long_length if length == 1 else length
        yield start, length
        if length < 8:  # 0: to the end of the file
            return
        start += length


def _segment(head: bytes) -> Iterator[tuple[int, int]]:
    # Matroska: the EBML header, then the segment, whose length is unknown if all its bits are 1.
    def number(at: int) -> tuple[int, int | None]:
        width = 9 - head[at].bit_length()
        if at + width > len(head) or width > 8:
            raise IndexError
        value = int.from_bytes(head[at : at + width], "big") - (1 << (7 * width))
        return at + width, None if value == (1 << (7 * width)) - 1 else value

    try:
        at, length = number(4)
        at += length or 0
        if head[at : at + 4] == b"\x18S\x80g":
            at, length = number(at + 4)
            if length is not None:
                yield at, length
    except IndexError:
        return


def _ogg(file: BinaryIO, size: int) -> Extent | None:
    # The last page must be complete, and should be marked as the last one; the mark is missing in some live recordings.
    file.seek(max(0, size - _OGG_LONGEST_PAGE))
    tail = file.read()
    start = tail.rfind(b"OggS")
    if start < 0:
        return None
    page = tail[start:]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    end = 27 + len(lengths) + sum(lengths)
    complete = len(page) > 26 and len(lengths) == page[26] and len(page) >= end
    rest = page[end:]
    if not complete or (rest and b"OggS".startswith(rest)):
        return Extent(size, None)
    return None if page[5] & 4 else Extent(size, None, certain=False)
