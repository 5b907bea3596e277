"""Damaged files of every format: each is read, or refused with a sentence, and never takes long.

INNERTUNE_FUZZ=2000 tries that many files instead of a few.
"""

import os
import random
import time

import pytest
from adapt_formats import PAIR_FILES, SPEECH_FILES

from adapt.data.formats import kind_of
from adapt.data.manifest import read_manifest
from adapt.data.pairs import read_pairs_file
from adapt.errors import InputError

COUNT = int(os.environ.get("INNERTUNE_FUZZ", "120"))
SECONDS = 10.0
PIECES = (
    b"\x00", b"\xff", b'"', b"'", b"{", b"}", b"[", b"]", b"\n", b"\r", b"\t", b",", b";", b"|", b":", b"/", b"~", b"<",
    b"\\ud83d", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\xa9", b"NaN", b"9" * 400, b"[" * 3000, b"null", b"-1", b"1e999",
    b"&a;", b"..", b"{data_root}/",
)  # fmt: skip


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return the bytes with a few random changes: pieces inserted, deleted, replaced, repeated, or cut off."""
    for _ in range(draw.choice([1, 1, 2, 4, 8])):
        place, kind = draw.randrange(len(data) + 1), draw.random()
        if kind < 0.4:
            data = data[:place] + draw.choice(PIECES) + data[place:]
        elif kind < 0.6:
            data = data[:place] + data[place + draw.choice([1, 3, 10, 100]) :]
        elif kind < 0.75:
            data = data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :]
        elif kind < 0.85:
            data = data[:place]
        else:
            start = draw.randrange(len(data) + 1)
            data = data[:place] + data[start : start + 50] + data[place:]
    return data


@pytest.mark.parametrize("part", range(4))
def test_damaged_files_are_read_or_refused(tmp_path, part):
    draw = random.Random(part)
    for number in range(COUNT // 4):
        folder = tmp_path / str(number)
        folder.mkdir()
        if draw.random() < 0.35:
            content, _, options = PAIR_FILES[draw.choice(sorted(PAIR_FILES))]
            path = folder / f"p{draw.choice(['.csv', '.tsv', '.jsonl', '.json', '.tmx', '.txt'])}"
            path.write_bytes(damaged(content.encode(), draw))
            refused_or_read(lambda path=path, options=options: read_pairs_file(path, **options))
        else:
            path, _ = draw.choice(SPEECH_FILES)(folder)
            files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix != ".wav")
            file = draw.choice(files)
            file.write_bytes(damaged(file.read_bytes(), draw))
            refused_or_read(lambda path=path: read_manifest(path))
        kind_of(path)


def refused_or_read(read):
    start = time.monotonic()
    try:
        problems = read()[1]
    except InputError as error:
        problems = [str(error)]
    for problem in problems:
        problem.encode()  # it can be printed and stored
    assert time.monotonic() - start < SECONDS
