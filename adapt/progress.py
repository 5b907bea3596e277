"""Progress of long work: one bar on a terminal's error stream, nothing in a log file."""

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar on standard error that goes away at the end."""
    from rich.console import Console
    from rich.progress import track as bar

    count = total if total is not None else len(items) if isinstance(items, Sized) else None
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    yield from bar(items, f"{what:>24}", total=count, console=console, transient=True)
