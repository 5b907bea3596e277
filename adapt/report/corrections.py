"""Print a table of a model's corrections on the terminal."""

import logging
from collections.abc import Sequence
from pathlib import Path

from interventions.corrections.rows import Record

log = logging.getLogger(__name__)


def print_corrections(records: Sequence[Record], model: str, path: Path) -> None:
    """Print a row for each correction of a model's store: its number, time, author, both texts and size."""
    from rich.console import Console
    from rich.table import Table

    if not records:
        log.info("%s: no corrections in %s.", model, path)
        return
    table = Table(title=f"{model}: corrections in {path}", title_justify="left")
    for column in ("", "made", "by", "before", "corrected", "kB"):
        table.add_column(column, justify="right" if column in ("", "kB") else "left", overflow="fold")
    for record in records:
        size = f"{record.bytes / 1000:.1f}" if record.bytes else "override"
        made = record.made.removesuffix("+00:00").replace("T", " ")
        table.add_row(str(record.number), made, record.author, record.facts["before"], record.facts["text"], size)
    Console().print(table)
