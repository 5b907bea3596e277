"""Print a table of a model's corrections on the terminal."""

from collections.abc import Sequence

from adapt.terminal import Table
from interventions.corrections.store import Record


def print_corrections(records: Sequence[Record], title: str) -> None:
    """Print a row for each correction: its number, time, author, both texts and size."""
    columns = ("number", "made", "by", "before", "corrected", "kB")
    table = Table(title, columns, left=columns[1:-1])
    for record in records:
        size = f"{record.bytes / 1000:.1f}" if record.bytes else "override"
        made = record.made.removesuffix("+00:00").replace("T", " ")
        table.row(record.number, made, record.author, record.facts["before"], record.facts["text"], size)
    table.show()
