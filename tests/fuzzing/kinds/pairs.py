"""Sentence pairs in every format that is read: JSON lines, tables, TMX, and two files of lines."""

import json
import random
from pathlib import Path
from typing import Any

from adapt_formats import PAIR_FILES

from adapt.data.formats import kind_of
from adapt.data.pairs import read_pairs_file
from fuzzing.damage import damage_bytes, damage_json, damage_text
from fuzzing.frame import Case, Make, Wrong

_PAIRS = [("Good morning.", "Guten Morgen."), ("It is foggy; cold.", "Es ist neblig."), ("“Yes”, she said.", "Ja.")]
_TMX = """<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4"><header srclang="en" datatype="plaintext"/><body>
{}
</body></tmx>
"""
_UNIT = '<tu><tuv xml:lang="en"><seg>{}</seg></tuv><tuv xml:lang="de"><seg>{}</seg></tuv></tu>'
_BOMB = """<?xml version="1.0"?>
<!DOCTYPE tmx [<!ENTITY a "aaaaaaaaaa">{}<!ENTITY x SYSTEM "file:///etc/passwd">]>
<tmx version="1.4"><header srclang="en"/><body><tu><tuv xml:lang="en"><seg>&{};</seg></tuv>
<tuv xml:lang="de"><seg>b</seg></tuv></tu></body></tmx>
"""


def prepare(work: Path) -> Make:
    """Nothing has to be prepared."""

    def make(draw: random.Random, folder: Path) -> Case:
        if draw.random() < 0.4:
            content, _, options = PAIR_FILES[draw.choice(sorted(PAIR_FILES))]
            path = folder / f"pairs{draw.choice(['.csv', '.tsv', '.jsonl', '.json', '.tmx', '.txt'])}"
            what, data = damage_text(draw, content.encode())
            path.write_bytes(data)
            return Case(f"{path.name}: {what}", lambda: _use(path, **options))
        name, data = draw.choice([_json_lines, _table, _tmx, _lines])(draw)
        if draw.random() < 0.5:
            what, data = damage_bytes(draw, data)
        else:
            what = "a value"
        path = folder / name
        path.write_bytes(data)
        if name == "en.txt":
            (folder / "de.txt").write_text("".join(f"{target}\n" for _, target in _PAIRS))
            return Case(f"{name}: {what}", lambda: _use([path, folder / "de.txt"]))
        return Case(f"{name}: {what}", lambda: _use(path))

    return make


def _use(path: Path | list[Path], **options: Any) -> None:
    kind_of(path)
    for pair in read_pairs_file(path, **options)[0]:
        f"{pair.source}\t{pair.text}".encode()
        if not pair.source.strip() or not pair.text.strip() or "root:" in pair.source:
            raise Wrong(f"a pair was read that is empty, or not in the file: {pair}")


def _json_lines(draw: random.Random) -> tuple[str, bytes]:
    rows: list[object] = [{"source": source, "target": target, "domain": "weather"} for source, target in _PAIRS]
    number = draw.randrange(len(rows))
    _, rows[number] = damage_json(draw, rows[number])
    return "pairs.jsonl", "\n".join(map(json.dumps, rows)).encode()


def _table(draw: random.Random) -> tuple[str, bytes]:
    ending, delimiter = draw.choice([("tsv", "\t"), ("csv", ","), ("csv", ";")])
    rows = [("source", "target"), *_PAIRS] if draw.random() < 0.7 else list(_PAIRS)
    lines = [delimiter.join(row) for row in rows]
    if draw.random() < 0.5:
        extra = draw.choice(["", delimiter, '"', '"open', delimiter * 5, "\0", "a" * 200_000, "one cell"])
        lines.insert(draw.randrange(len(lines)), extra)
    encoding = draw.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1"])
    return f"pairs.{ending}", "\n".join(lines).encode(encoding, errors="replace")


def _tmx(draw: random.Random) -> tuple[str, bytes]:
    if draw.random() < 0.3:
        entities = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        return "pairs.tmx", _BOMB.format(entities, draw.choice("ix")).encode()
    units = "\n".join(_UNIT.format(*pair) for pair in _PAIRS)
    units = units.replace(
        *draw.choice([("</seg>", ""), ('"de"', '"fr"'), ("<tuv", "<tu"), ("Good", "&nbsp;"), ("a", "a")])
    )
    return "pairs.tmx", _TMX.format(units).encode()


def _lines(draw: random.Random) -> tuple[str, bytes]:
    count = draw.choice([0, 2, 3, 3, 4])
    return "en.txt", "".join(f"{source}\n" for source, _ in [*_PAIRS, _PAIRS[0]][:count]).encode()
