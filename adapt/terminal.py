"""All output to the terminal: messages, tables, log lines, warnings and tracebacks.

Texts that users gave (names of speakers, groups and files, titles, corrections) are never read as markup, and their
control characters are shown as escapes such as `\\u001b`, because a terminal would obey them. No other module prints.
"""

import logging
import os
import re
import sys
import traceback
import warnings
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# Control characters (C0, DEL, C1), line and paragraph separators, characters that reorder text (embeddings, overrides
# and isolates), and lone surrogates. Joiners and direction marks stay: scripts and emoji need them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FILE_WIDTH = 200  # characters of a table in a file or a pipe, which have no width


def visible(text: object, lines: bool = False) -> str:
    """Return `text` with control characters as visible escapes: ESC as `\\u001b`.

    The escapes are JSON's, so that a JSON text stays one with the same content.

    Args:
        text: Any object; `str` makes its text.
        lines: Keep line breaks and tabs. Otherwise they are escaped too, so that a message stays on one line.
    """

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        if lines and character in "\n\t":
            return character
        return _SHORT.get(character) or f"\\u{ord(character):04x}"

    return _CONTROL.sub(escape, str(text))


def open_streams() -> None:
    """Open the standard streams that the caller closed (`>&-`), so that no file of ours gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (until the process ends)


def say(text: object = "", *, lines: bool = False, error: bool = False) -> None:
    """Print a line to standard output, or to standard error with `error`. See `visible` about `lines`."""
    stream = sys.stderr if error else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # A terminal that is not UTF-8 lacks characters, and an escape is better than an exception after a long run.
    print(visible(text, lines).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def console(error: bool = False, width: int | None = None) -> "Console":
    """Return a console that reads no markup in texts. Progress bars need one; everything else uses `say` or `Table`."""
    from rich.console import Console

    return Console(stderr=error, width=width, markup=False, emoji=False, highlight=False)


def description_column() -> Any:
    """Return the column of a rich progress bar that shows a task's description, which may be any text."""
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False)


@dataclass
class Table:
    """A table for the terminal. All cells are plain text.

    Attributes:
        title: The line above the table.
        columns: The headings. Columns after the first are aligned to the right.
        left: Headings of further columns that are aligned to the left.
        caption: A line below the table; "" for none.
        wrap: Break long cells into several lines. Otherwise they are cut where the terminal ends.
    """

    title: object
    columns: tuple[str, ...]
    left: tuple[str, ...] = ()
    caption: object = ""
    wrap: bool = True
    _rows: list[tuple[tuple[object, ...], bool] | None] = field(default_factory=list)

    def row(self, *cells: object, strong: bool = False) -> None:
        """Add a row; `strong` makes it bold."""
        self._rows.append((cells, strong))

    def rule(self) -> None:
        """Add a line between the rows before and after."""
        self._rows.append(None)

    def show(self, min_width: int = 0, file_width: int = _FILE_WIDTH) -> None:
        """Print the table to standard output.

        Args:
            min_width: The least width in characters, also on a narrower terminal.
            file_width: The width in characters if standard output is not a terminal.
        """
        output = console()
        width = max(output.width, min_width) if output.is_terminal else max(file_width, min_width)
        console(width=width).print(self._drawn())

    def _drawn(self) -> Any:
        from rich.table import Table as RichTable
        from rich.text import Text

        drawn = RichTable(
            title=Text(visible(self.title)), title_justify="left", caption_justify="left",
            caption=Text(visible(self.caption)) if self.caption else None,
        )  # fmt: skip
        for number, column in enumerate(self.columns):
            justify = "left" if number == 0 or column in self.left else "right"
            drawn.add_column(
                Text(visible(column)), justify=justify, overflow="fold" if self.wrap else "ellipsis",
                no_wrap=not self.wrap,
            )  # fmt: skip
        for row in self._rows:
            if row is None:
                drawn.add_section()
            else:
                cells, strong = row
                drawn.add_row(*(Text(visible(cell)) for cell in cells), style="bold" if strong else None)
        return drawn


class _Formatter(logging.Formatter):
    """Shows control characters as escapes. Line breaks stay in the messages of other libraries and in tracebacks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the standard library's name)
        ours = record.name.partition(".")[0] in ("adapt", "interventions")
        return visible(super().formatMessage(record), lines=not ours)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return visible(super().formatException(ei), lines=True)


class _Handler(logging.StreamHandler):
    """Lets a run go on without its messages if their reader ends, as in `innertune adapt | head`, or a disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def set_up_output(level: int) -> None:
    """Log messages of at least `level` to standard output, and escape control characters in warnings and tracebacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = _Handler(sys.stdout)
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    plain = warnings.formatwarning
    warnings.formatwarning = lambda *given, **options: visible(plain(*given, **options), lines=True)
    sys.excepthook = lambda kind, error, trace: say(
        "".join(traceback.format_exception(kind, error, trace)).rstrip(), lines=True, error=True
    )


def log_lines(logger: logging.Logger, text: str) -> None:
    """Log each line of `text`. A line break within a message of ours would be shown as an escape."""
    for line in text.split("\n"):
        logger.info("%s", line)


def log_to_stderr() -> None:
    """Send log messages to standard error from now on, because standard output is for what the command returns."""
    for handler in logging.getLogger().handlers:
        if type(handler) is _Handler:
            handler.setStream(sys.stderr)
