"""The key figures of a measure as tables, for loggers that show tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapt.report.tables import Table


def summary_tables(figures: Mapping[str, Any]) -> dict[str, Table]:
    """Return the tables in the key figures of a measure, by their path, such as `groups` or `comparisons/layers`.

    A table is a list of dicts, or a dict of dicts, whose keys become the first column. A table inside a row becomes a
    table of its own, whose rows begin with the texts of the outer row. A pair of numbers becomes two columns, `x_low`
    and `x_high`, and any other list becomes one text.
    """
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for place, row in _rows(figures, "", {}):
        rows_of.setdefault(place, []).append(row)
    return {place: _table(rows) for place, rows in rows_of.items()}


def _rows(value: Mapping[str, Any], place: str, outer: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row of the tables in a dict, with the table's path. `outer` has the texts of the enclosing row."""
    for key, inner in value.items():
        inner_place = f"{place}/{key}" if place else str(key)
        if isinstance(inner, list) and inner and all(isinstance(row, Mapping) for row in inner):
            rows = inner
        elif isinstance(inner, Mapping) and inner and all(isinstance(row, Mapping) for row in inner.values()):
            rows = [{"name": name, **row} for name, row in inner.items()]
        else:
            if isinstance(inner, Mapping):
                yield from _rows(inner, inner_place, outer)
            continue
        for row in rows:
            yield inner_place, {**outer, **_cells(row)}
            texts = {name: cell for name, cell in row.items() if isinstance(cell, str)}
            yield from _rows(row, inner_place, {**outer, **texts})


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, (list, tuple)):
            if len(value) == 2 and all(isinstance(end, (int, float)) for end in value):
                cells |= {f"{name}_low": value[0], f"{name}_high": value[1]}
            elif not any(isinstance(one, (Mapping, list)) for one in value):
                cells[name] = ", ".join(map(str, value)) or None
        elif not isinstance(value, Mapping):
            cells[name] = value
    return cells


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row if row[name] is not None))
    return Table(columns, [[row.get(name) for name in columns] for row in rows])
