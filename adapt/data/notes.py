"""Notes on files that are read in an unusual way: each is logged once per file, and counted where many are read."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger(__name__)

_said: set[tuple[str, str]] = set()
_files: set[str] = set()
_summary: ContextVar[dict[str, list[str]] | None] = ContextVar("summary", default=None)


def note(message: str, file: str) -> None:
    """Log a message about a file, unless it was said before; within `summarised`, only count it."""
    if (message, file) in _said:
        return
    _said.add((message, file))
    _files.add(file)
    summary = _summary.get()
    if summary is None:
        log.warning("'%s': %s", file, message)
    else:
        summary.setdefault(message, []).append(file)


def noted(file: str) -> bool:
    """Return whether there was a note on a file."""
    return file in _files


@contextmanager
def summarised() -> Iterator[None]:
    """Within this context, notes are collected; at its end each message is logged once, with the number of files."""
    collected: dict[str, list[str]] = {}
    token = _summary.set(collected)
    try:
        yield
    finally:
        _summary.reset(token)
        for message, files in collected.items():
            more = f" (and {len(files) - 1:,} more files)" if len(files) > 1 else ""
            log.warning("'%s'%s: %s", files[0], more, message)
