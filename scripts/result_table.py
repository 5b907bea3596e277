"""Write a study's rows as a table for the site: `--results FILE` of the study scripts.

The site draws `docs/results/*.json` (`docs/_ext/results.py`). Columns may be renamed, and rows left out, before a table
is published.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OPTION = "--results"


def add_results_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--results`."""
    parser.add_argument(
        OPTION, type=Path, help="also write the table, with command, date and machine, for docs/results"
    )


def write_table(path: Path, title: str, rows: Sequence[Mapping[str, Any]], seeds: str | None = None) -> None:
    """Write rows as a table with what is needed to repeat the measurement.

    Args:
        path: the JSON file.
        title: the title of the table; of several lines, the first.
        rows: the rows, with the columns of the first row. Values may be nested mappings.
        seeds: the seeds, in words.
    """
    from adapt.files import write_json

    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    table = {
        "title": title.strip().partition("\n")[0].rstrip("."),
        "command": _command(sys.argv),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "seeds": seeds,
        "machine": f"{os.cpu_count()} cores",
        "measured": None,
        "columns": columns,
        "rows": [[_cell(row.get(name)) for name in columns] for row in flat],
        "notes": [],
    }
    write_json(path, table)


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(one) for one in value)
    return str(value)


def _command(arguments: Sequence[str]) -> str:
    script = Path(arguments[0]).name
    kept = list(arguments[1:])
    if OPTION in kept:
        place = kept.index(OPTION)
        del kept[place : place + 2]
    return shlex.join([f"scripts/{script}", *kept])


def _commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or None
