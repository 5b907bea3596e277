"""A progress bar for long loops."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
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


@contextmanager
def seconds_bar(what: str, total: float) -> Iterator[Callable[[float], None]]:
    """Show a progress bar over seconds of audio, as `track` does. Yields a function that adds seconds.

    Args:
        what: The label of the bar.
        total: All seconds; 0 if they are not known.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    shown = console(error=True)
    if not shown.is_terminal or not is_first():
        yield lambda _: None
        return
    columns = (description_column(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True) as progress:
        task = progress.add_task(f"{visible(what):>24}", total=total or None)
        yield lambda seconds: progress.advance(task, seconds)
