"""Progress of long work: one bar on a terminal's error stream, nothing in a log file."""

from collections.abc import Generator, Iterable, Sized
from typing import TypeVar

from adapt.distributed import is_first

T = TypeVar("T")


def track(items: Iterable[T], what: str) -> Generator[T, None, None]:
    """Iterate with a progress bar on standard error that goes away at the end, or when the iterator is closed."""
    from rich.console import Console
    from rich.progress import track as bar

    count = len(items) if isinstance(items, Sized) else None
    console = Console(stderr=True)
    if not console.is_terminal or not is_first():
        yield from items
        return
    yield from bar(items, f"{what:>24}", total=count, console=console, transient=True)
