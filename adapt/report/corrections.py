"""Print a table of a model's corrections on the terminal."""

import logging
from collections.abc import Sequence
from pathlib import Path

from adapt.corrections.stored import shown_texts
from adapt.terminal import Table
from interventions.corrections.rows import Record

log = logging.getLogger(__name__)


def print_corrections(records: Sequence[Record], model: str, path: Path) -> None:
    """Print a row for each correction of a model's store: its number, time, author, both texts and size."""
    if not records:
        log.info("%s: no corrections in %s.", model, path)
        return
    columns = ("number", "made", "by", "before", "corrected", "kB")
    table = Table(f"{model}: corrections in {path}", columns, left=columns[1:-1])
    for record in records:
        size = f"{record.bytes / 1000:.1f}" if record.bytes else "override"
        made = record.made.removesuffix("+00:00").replace("T", " ")
        table.row(record.number, made, record.author, *shown_texts(record.facts), size)
    table.show()
