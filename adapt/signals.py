"""Interruption by a signal: SIGTERM and SIGINT (Ctrl-C) raise `Stopped`, which ends the process with status 143 or 130.

A checkpoint is written at the end of each epoch, and files are written whole or not at all, so that a run can be
stopped anywhere.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_state: dict[str, int] = {}  # "received": the number of the signal that came


class Stopped(SystemExit):
    """A signal has come. The exit status is 128 and its number, as shells have it.

    Attributes:
        number: The signal's number.
        reported: Whether the user was told.
        at_once: Whether the process must end without the interpreter's own cleaning up, which would wait for other
            processes that are gone.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number
        self.reported = False
        self.at_once = False

    def leave(self) -> NoReturn:
        """End the process with the exit status."""
        if self.at_once:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + self.number)
        raise self

    @property
    def name(self) -> str:
        """The signal's name, such as "SIGTERM"."""
        return signal.Signals(self.number).name


def install() -> None:
    """Let SIGTERM and SIGINT raise `Stopped` in the main thread. The second one ends the process at once."""
    if threading.current_thread() is threading.main_thread():
        _state.clear()
        for number in _SIGNALS:
            signal.signal(number, _stop)


def installed() -> bool:
    """Return whether `install` was called in this process, as the command line does, and no signal has come yet."""
    return signal.getsignal(signal.SIGINT) is _stop


def stopped_by(error: BaseException | None = None) -> Stopped | None:
    """Return the `Stopped` that `error` is or stands for, or None if no signal has come.

    Libraries may raise an exception of their own when a signal interrupts them, as `torch.save` does.
    """
    if isinstance(error, Stopped):
        return error
    return Stopped(_state["received"]) if "received" in _state else None


def check() -> None:
    """Raise `Stopped` if a signal has come. An exception that a signal raises within a destructor gets lost."""
    if (stop := stopped_by()) is not None:
        raise stop


def _stop(number: int, _: FrameType | None) -> None:
    _state["received"] = number
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_DFL)
    raise Stopped(number)
