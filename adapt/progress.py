"""A progress bar for long loops."""

from collections.abc import Generator, Iterable, Sized
from typing import TypeVar

from adapt.distributed import is_first
from adapt.terminal import console, description_column, visible

T = TypeVar("T")


def track(items: Iterable[T], what: str) -> Generator[T, None, None]:
    """Iterate over `items` with a progress bar labelled `what`.

    The bar is shown on standard error if that is a terminal, and only by the first process. It disappears when the
    iterator ends or is closed.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    count = len(items) if isinstance(items, Sized) else None
    shown = console(error=True)
    if not shown.is_terminal or not is_first():
        yield from items
        return
    columns = (description_column(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True) as progress:
        yield from progress.track(items, count, description=f"{visible(what):>24}")
