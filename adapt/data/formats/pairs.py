"""Sentence pairs in any format as rows with our own keys: source, target, domain, id, ..."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.data.formats.documents import array_rows, object_rows
from adapt.data.formats.lines import read_lines
from adapt.data.formats.recognise import PAIR_KEYS, recognise
from adapt.data.formats.rows import Row, Rows, checked
from adapt.data.formats.speech import json_line_rows
from adapt.data.formats.table import plain_name, table_cells, table_rows
from adapt.data.formats.tmx import tmx_rows
from adapt.errors import InputError

log = logging.getLogger(__name__)

_SIDES = {
    "source": ("source", "src", "source_text", "source_sentence"),
    "target": ("target", "tgt", "target_text", "target_sentence"),
}
_FURTHER = ("domain", "id")
# A first line of two such words is a header with names that we do not know: en, de-AT, text_en, German.
_HEADER = re.compile(
    r"[a-z]{2,3}([-_][a-z0-9]{2,8})?|\w+[-_]\w+|english|german|french|spanish|italian|portuguese|dutch|polish|"
    r"russian|czech|turkish|arabic|chinese|japanese|korean|hindi|text|sentence|reference|hypothesis|translation|input|"
    r"output|original",
    re.IGNORECASE,
)

Column = str | int


@dataclass(frozen=True)
class PairColumns:
    """Which columns or languages to read.

    Attributes:
        source, target: a column's or key's name, or its number from 1 in a table without a header; None to find it.
        source_lang, target_lang: the languages in TMX, in {"translation": {"en": ..., "de": ...}}, or as the names of
            columns; None to find them.
    """

    source: Column | None = None
    target: Column | None = None
    source_lang: str | None = None
    target_lang: str | None = None

    def canonical(self, row: Row, needs_target: bool = True) -> Row:
        """Return the row with the keys source and target. Raises InputError if no key, or several, can be one."""
        if not row.values:
            return row
        values, inner = row.values, row.values.get("translation")
        sides: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {}
        found: dict[str, Any] = {}
        used: set[str] = set()
        for side in ("source", "target"):
            wanted = self.wanted(side)
            if wanted is None and sides and not {"source", "target"} & values.keys():
                raise InputError(
                    f"{row.where}: 'translation' has the languages {', '.join(sides)}. Choose with "
                    "data.source_lang=LANG data.target_lang=LANG."
                )
            key, holder = self._key(side, wanted, values, sides, row.where, needs_target or side == "source")
            if key is not None:
                found[side] = holder[key]
                used.add(key if holder is values else "translation")
        return Row(
            {**found, **{key: value for key, value in values.items() if key not in used | found.keys()}}, row.where
        )

    def wanted(self, side: str) -> str | None:
        """Return the column or language that a side is read from; None to find it."""
        column = self.source if side == "source" else self.target
        return str(column) if column is not None else self.source_lang if side == "source" else self.target_lang

    def _key(
        self,
        side: str,
        wanted: str | None,
        values: Mapping[str, Any],
        sides: Mapping[str, Any],
        where: str,
        needed: bool,
    ) -> tuple[str | None, Mapping[str, Any]]:
        plain = {plain_name(key): key for key in values}
        has = f"It has: {', '.join([*sorted(values), *sides])[:300]}."
        if wanted is not None:
            key = wanted if wanted in values else plain.get(plain_name(wanted))
            if wanted in sides:
                return wanted, sides
            is_language = (self.source if side == "source" else self.target) is None
            if key is not None or not (is_language and side in values):
                if key is None and needed:
                    raise InputError(f"{where}: there is no column '{wanted}'. {has} Correct data.{side}_column.")
                return key, values
        keys = [plain[name] for name in _SIDES[side] if name in plain]
        if side == "target" and not keys and isinstance(values.get("translation"), str):
            keys = ["translation"]
        if side in keys:
            return side, values
        if len(keys) > 1:
            raise InputError(
                f"{where}: {' and '.join(keys)} can both be the {side}. {has} Choose data.{side}_column=NAME."
            )
        if not keys and needed:
            raise InputError(
                f"{where}: needs '{side}' with a non-empty text. {has} If another column holds it, give "
                f"data.{side}_column=NAME."
            )
        return (keys[0] if keys else None), values


def pair_rows(path: Path, columns: PairColumns, needs_target: bool = True) -> Rows:
    """Yield the rows of a file of sentence pairs: JSON lines, a JSON array, CSV, TSV or TMX.

    Args:
        path: the file.
        columns: which columns to read.
        needs_target: whether a row without a target is unusable. If not, a blank line is a row without values.

    Raises:
        InputError: the file cannot be read, or has no known format.
    """
    found = recognise(path)
    if found.format == "TMX":
        languages = [  # a TMX has no columns, so a column's name can only be a language
            lang or (None if column is None else str(column))
            for lang, column in ((columns.source_lang, columns.source), (columns.target_lang, columns.target))
        ]
        return checked(tmx_rows(path, *languages))
    if found.format == "JSON lines":
        rows = json_line_rows(path, "'source' and 'target'", blank=not needs_target)
    elif found.format == "JSON array":
        rows = array_rows(path)
    elif found.format == "JSON object":
        rows = object_rows(path)
    elif found.format == "table":
        rows = _table(path, columns, not needs_target)
    else:
        raise InputError(f"'{path}' holds speech ({found.format}), not sentence pairs. Give it with data=manifest.")
    return checked(_mapped(rows, columns, needs_target))


def _mapped(rows: Rows, columns: PairColumns, needs_target: bool) -> Rows:
    for row in rows:
        try:
            yield columns.canonical(row, needs_target) if isinstance(row, Row) else row
        except InputError as error:
            yield error


def two_file_rows(source: Path, target: Path) -> Rows:
    """Yield the pairs of two text files with parallel lines.

    Raises:
        InputError: a file cannot be read, or they differ in their number of lines.
    """
    counts = [sum(1 for _ in read_lines(path, "text file")) for path in (source, target)]
    if counts[0] != counts[1]:
        raise InputError(
            f"'{source}' has {counts[0]} lines and '{target}' has {counts[1]}. Line n of one must be the "
            "translation of line n of the other."
        )
    both = zip(read_lines(source, "text file"), read_lines(target, "text file"), strict=True)
    for (number, text), (_, translation) in both:
        places = f"{source}:{number}", f"{target}:{number}"
        if isinstance(text, InputError) or isinstance(translation, InputError):
            yield text if isinstance(text, InputError) else InputError(str(translation))
        elif not text.strip() or not translation.strip():
            empty, other = places if not text.strip() else places[::-1]
            yield InputError(f"{empty}: the line is empty. Delete it together with {other}, or fill it in.")
        else:
            yield Row({"source": text, "target": translation}, places[0])


def _table(path: Path, columns: PairColumns, blank: bool) -> Rows:
    known = {*PAIR_KEYS, *_FURTHER, *(name for names in _SIDES.values() for name in names)}
    named = [name for name in (columns.wanted("source"), columns.wanted("target")) if name is not None]
    known |= {plain_name(name) for name in named}
    where, first = next(table_cells(path, known), (f"{path}:1", list[str]()))
    if isinstance(first, InputError):
        raise first
    numbers = [column for column in (columns.source, columns.target) if column is not None]
    if numbers and all(str(number).isdigit() for number in numbers) and not set(map(str, numbers)) & set(first):
        return _without_header(path, known, max(map(int, numbers)), exact=False)
    plain = {plain_name(cell) for cell in first}
    if plain & {*_SIDES["source"]} or any(plain_name(name) in plain for name in named) or "translation" in plain:
        return table_rows(path, known, blank)
    shown = ", ".join(first)[:80] or "nothing"
    if len(first) == 2 and not named and not plain & known and not all(_HEADER.fullmatch(c.strip()) for c in first):
        log.info("'%s' has no header: column 1 is read as the source, column 2 as the target.", path)
        return _without_header(path, known, 2, exact=True)
    raise InputError(
        f"{where}: expected a header line with the columns 'source' and 'target'; got {shown}. Name the columns with "
        "data.source_column=NAME data.target_column=NAME, or number them from 1 if the file has no header."
    )


def _without_header(path: Path, known: set[str], count: int, exact: bool) -> Iterator[Row | InputError]:
    for where, cells in table_cells(path, known):
        if isinstance(cells, InputError):
            yield cells
        elif len(cells) < count or (exact and len(cells) > count):
            yield InputError(f"{where}: expected {count} columns, as in the first line, got {len(cells)}.")
        elif exact:
            yield Row({"source": cells[0], "target": cells[1]}, where)
        else:
            yield Row({str(number): cell for number, cell in enumerate(cells, start=1) if cell.strip()}, where)
