"""Compute many values in several threads, in order: for reading files, which waits for disks more than for Python."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Result = TypeVar("Result")
Value = TypeVar("Value")
_MOST = 8


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def in_threads(function: Callable[[Value], Result], values: Iterator[Value]) -> Iterator[Result]:
    """Yield `function(value)` for each value, in their order, computed by as many threads as there are CPU cores.

    Threads see the context of the caller, such as the notes that it collects.
    """
    threads = min(_MOST, cores())
    if threads == 1:
        yield from map(function, values)
        return
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for value in values:
            waiting.append(pool.submit(copy_context().run, function, value))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
