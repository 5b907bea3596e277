"""Tables with a header line: CSV with commas, semicolons (Excel) or bars, and TSV."""

import csv
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

from adapt.data.formats.lines import read_lines
from adapt.data.formats.rows import Row, Rows
from adapt.errors import InputError

DELIMITERS = {"\t": "tab", ";": "semicolon", ",": "comma", "|": "bar"}


@lru_cache(maxsize=1024)  # each line of JSON lines has the same few names
def plain_name(column: str) -> str:
    """Return a column's name for comparisons: "File Name", "file-name" and " FILE_NAME" are all "file_name"."""
    return "_".join(column.strip().lstrip("\ufeff").lower().replace("-", " ").replace("_", " ").split())


def table_rows(path: Path, known: Collection[str], blank: bool = False) -> Rows:
    """Yield the rows of a table, with the values as texts. Empty cells are missing values; blank lines are skipped.

    CSV may have cells in quotation marks, with line ends in them. In a TSV, quotation marks are part of the text,
    except where a cell is unmistakably quoted ("say ""ah"" now").

    Args:
        path: the file.
        known: plain names of columns, by which the delimiter is recognised.
        blank: whether a blank line of a TSV is a row without values; otherwise it is skipped.

    Raises:
        InputError: the file cannot be read, or the header has a name twice.
    """
    cells = table_cells(path, known, blank)
    where, header = next(cells, (f"{path}:1", []))
    if isinstance(header, InputError):
        raise header
    kind = DELIMITERS[table_delimiter(path, known)]
    columns = [column.strip() for column in header]
    twice = {column for column in columns if column and columns.count(column) > 1}
    if twice:
        raise InputError(
            f"{where}: expected a header line with distinct column names; '{min(twice)}' is there twice. Rename one."
        )
    for where, row in cells:
        yield row if isinstance(row, InputError) else _row(columns, row, where, kind)


def table_cells(
    path: Path, known: Collection[str], blank: bool = False
) -> Iterator[tuple[str, list[str] | InputError]]:
    """Yield the cells of each line, the header's first, each with its place; with `blank`, no cell for a blank line."""
    lines = read_lines(path, "table")
    number, first = _header(lines)
    if not first:
        return
    delimiter = best_delimiter(first, known)
    if delimiter == "\t":
        yield f"{path}:{number}", split_tabs(first)
        for number, line in lines:
            if isinstance(line, InputError):
                yield f"{path}:{number}", line
            elif line.strip() or blank:
                yield f"{path}:{number}", split_tabs(line) if line.strip() else []
        return
    yield from _csv_cells(path, delimiter, number, first, lines)


def table_delimiter(path: Path, known: Collection[str]) -> str:
    """Return the delimiter of a table. Raises InputError if it cannot be read."""
    return best_delimiter(_header(read_lines(path, "table"))[1], known)


def _header(lines: Iterator[tuple[int, str | InputError]]) -> tuple[int, str]:
    for number, line in lines:
        if isinstance(line, InputError):
            raise line
        if line.strip() and not line.lower().startswith("sep="):  # Excel's line that names the delimiter
            return number, line
    return 1, ""


def best_delimiter(header: str, known: Collection[str]) -> str:
    """Return the delimiter with which a header line has the most known columns, and then the most columns."""
    cells = {delimiter: header.split(delimiter) for delimiter in DELIMITERS}
    counts = {
        delimiter: (sum(plain_name(cell.strip().strip('"')) in known for cell in found), len(found))
        for delimiter, found in cells.items()
    }
    return max(DELIMITERS, key=lambda delimiter: counts[delimiter])


def split_tabs(line: str) -> list[str]:
    """Return the cells of a TSV line. Quotation marks are part of the text unless a cell is unmistakably quoted."""
    return [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '""' in inner
    return inner.replace('""', '"') if quoted and '"' not in inner.replace('""', "") else cell


def _csv_cells(
    path: Path, delimiter: str, number: int, first: str, lines: Iterator[tuple[int, str | InputError]]
) -> Iterator[tuple[str, list[str] | InputError]]:
    place = [number, number]  # the line that was read last, and the one at which the current row began
    rest = chain([(number, first)], lines)
    reader = csv.reader(_texts(rest, place), delimiter=delimiter, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except InputError as error:
            yield f"{path}:{place[0]}", error
            reader = csv.reader(_texts(rest, place), delimiter=delimiter, strict=True)  # the old one has ended
            place[1] = place[0] + 1
            continue
        except csv.Error as error:
            row = InputError(f"{path}:{place[1]}: {_csv_problem(error, place)}")
        if isinstance(row, InputError) or any(cell.strip() for cell in row):
            yield f"{path}:{place[1]}", row
        place[1] = place[0] + 1


def _texts(lines: Iterator[tuple[int, str | InputError]], place: list[int]) -> Iterator[str]:
    """Yield the lines, and note the number of each in `place`. Raises the error of a line that cannot be read."""
    for own, line in lines:
        place[0] = own
        if isinstance(line, InputError):
            raise line
        yield line + "\n"


def _csv_problem(error: csv.Error, place: Sequence[int]) -> str:
    if "unexpected end" in str(error) or "field larger" in str(error):
        lines = "" if place[0] == place[1] else f", and the lines to {place[0]} were read as one cell"
        return f"a quotation mark opens a cell and is never closed{lines}. Double it, or delete it."
    return f"a cell in quotation marks is followed by other text ({error}). Write a quotation mark in it twice."


def _row(columns: Sequence[str], cells: Sequence[str], where: str, kind: str) -> Row | InputError:
    if not cells:
        return Row({}, where)
    if len(cells) < len(columns) or any(cell.strip() for cell in cells[len(columns) :]):
        return InputError(f"{where}: expected {len(columns)} {kind}-separated columns, got {len(cells)}.")
    pairs = zip(columns, cells[: len(columns)], strict=True)
    return Row({column: cell.strip() for column, cell in pairs if column and cell.strip()}, where)
