"""Training in several processes: their ranks, and how they end together.

The user starts the first process. When training begins, Lightning starts the others with the same command line, and
sets LOCAL_RANK in each of them.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.signals import Stopped, stopped_by

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

_PATIENCE = 10.0  # seconds that other processes have to report an error and exit


def is_first() -> bool:
    """Return whether this is the first process. It checks, measures, writes and prints; the others only train."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def gathered(own: Any) -> list[Any]:
    """Return what each training process gives, by rank. All of them must call it."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    every = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, own)
    return every


def rank_and_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes in `torch.distributed`; (0, 1) if it is not running."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


@contextmanager
def ending_together(trainer: "Trainer", claim: Path) -> Iterator[None]:
    """Within this context, an error in one process ends all of them, and only the first error is reported.

    The process that fails first creates the file `claim` and raises its error. The others exit silently: their errors
    only come from waiting for a process that is gone, which could take long on a GPU. A process also exits when the
    first process is gone. Without an error, the first process waits until the others have exited.
    """
    import torch

    if trainer.world_size == 1:
        yield
        return
    parent = os.getppid()
    if is_first():
        claim.unlink(missing_ok=True)
    else:
        threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    try:
        yield
    except BaseException as error:
        stop = stopped_by(error)
        number = stop.number if stop is not None else None
        failed_first = _create(claim, number) or (number is not None and is_first())
        number = number or (_signal_of(claim) if is_first() else None)
        if is_first():
            _end_others(trainer, 0.0 if failed_first else _PATIENCE)
            claim.unlink(missing_ok=True)
        elif failed_first:
            time.sleep(0.5)  # a killed process closes its connections a moment before its children see that it is gone
            failed_first = os.getppid() == parent
        if number is not None:  # in the first process also if another one was stopped, which stays silent
            stop = stop or Stopped(number)
            stop.at_once = True
            raise stop from None
        if failed_first:
            raise
        raise SystemExit(1) from None
    torch.distributed.destroy_process_group()
    if is_first():
        _end_others(trainer, _PATIENCE)


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _create(claim: Path, number: int | None) -> bool:
    """Create the file with the number of a signal, if any; return False if another process has already created it."""
    claim.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(claim, "x") as file:
            file.write("" if number is None else str(number))
    except FileExistsError:
        return False
    return True


def _signal_of(claim: Path) -> int | None:
    try:
        return int(claim.read_text())
    except (OSError, ValueError):  # an error and not a signal
        return None


def _end_others(trainer: "Trainer", patience: float) -> None:
    """Wait for the other processes, `patience` seconds in all, and kill those that are still running."""
    others: list[subprocess.Popen] = getattr(trainer.strategy.launcher, "procs", [])
    end = time.monotonic() + patience
    for other in others:
        try:
            other.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            other.send_signal(signal.SIGKILL)
            other.wait()
