"""A progress bar for long loops."""

from collections.abc import Generator, Iterable, Sized
from typing import TypeVar

from adapt.distributed import is_first

T = TypeVar("T")


def track(items: Iterable[T], what: str) -> Generator[T, None, None]:
    """Iterate over `items` with a progress bar labelled `what`.

    The bar is shown on standard error if that is a terminal, and only by the first process. It disappears when the
    iterator ends or is closed.
    """
    from rich.console import Console
    from rich.progress import track as bar

    count = len(items) if isinstance(items, Sized) else None
    console = Console(stderr=True)
    if not console.is_terminal or not is_first():
        yield from items
        return
    yield from bar(items, f"{what:>24}", total=count, console=console, transient=True)
