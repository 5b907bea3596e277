"""The numbers that a measure gives as tables, for loggers that have such: one for each list, and each dict by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapt.report.tables import Table


def summary_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Tables of a measure's `summary`, by where they are in it: `groups`, or `comparisons/layers`.

    A table is a list of dicts, or a dict of dicts alone, whose names are the first column. What lies deeper in a row is
    a table of its own, whose rows begin with the row's own texts. Pairs of numbers are two columns, `x_low` and
    `x_high`, other lists one text.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for place, row in _rows(summary, "", {}):
        found.setdefault(place, []).append(row)
    return {place: _table(rows) for place, rows in found.items()}


def _rows(value: Mapping[str, Any], place: str, known: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of all tables below a dict, with the place of each; `known` are the texts of the row that it is in."""
    for key, inner in value.items():
        here = f"{place}/{key}" if place else str(key)
        if isinstance(inner, list) and inner and all(isinstance(row, Mapping) for row in inner):
            rows = inner
        elif isinstance(inner, Mapping) and inner and all(isinstance(row, Mapping) for row in inner.values()):
            rows = [{"name": name, **row} for name, row in inner.items()]
        else:
            if isinstance(inner, Mapping):
                yield from _rows(inner, here, known)
            continue
        for row in rows:
            yield here, {**known, **_cells(row)}
            texts = {name: cell for name, cell in row.items() if isinstance(cell, str)}
            yield from _rows(row, here, {**known, **texts})


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
