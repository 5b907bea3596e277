"""Several processes that train one model: which of them this is, and that they end together.

The first is the one that the user started. When training begins, Lightning starts the others by the same command line,
and in each of them tells by LOCAL_RANK which one it is.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

_PATIENCE = 10.0  # seconds for another process to say why it failed


def is_first() -> bool:
    """Whether this process checks, measures, writes and prints; the others only train."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def place() -> tuple[int, int]:
    """This process's number, and how many there are in `torch.distributed`; 0 and 1 where it does not run."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


@contextmanager
def ending_together(trainer: "Trainer", claim: Path) -> Iterator[None]:
    """An error in one process ends all of them: the first to fail lets it through, the others leave without a word.

    It is the first that could make the file `claim`. Where a process waits for one that is no more, what it raises is
    only a consequence, and on a GPU it might wait for long; a process that outlives the first one ends as well.
    When all goes well, the first one waits for the others to leave.
    """
    import torch

    if trainer.world_size == 1:
        yield
        return
    parent = os.getppid()
    if is_first():
        claim.unlink(missing_ok=True)
    else:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        yield
    except BaseException:
        failed_first = _make(claim)
        if is_first():
            _end_others(trainer, 0.0 if failed_first else _PATIENCE)
            claim.unlink(missing_ok=True)
        elif failed_first:
            time.sleep(0.5)  # a process that was killed closes its connections before it counts as gone
            failed_first = os.getppid() == parent
        if failed_first:
            raise
        raise SystemExit(1) from None
    torch.distributed.destroy_process_group()
    if is_first():
        _end_others(trainer, _PATIENCE)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _make(claim: Path) -> bool:
    claim.parent.mkdir(parents=True, exist_ok=True)
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _end_others(trainer: "Trainer", patience: float) -> None:
    others: list[subprocess.Popen] = getattr(trainer.strategy.launcher, "procs", [])
    end = time.monotonic() + patience
    for other in others:
        try:
            other.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            other.send_signal(signal.SIGKILL)
            other.wait()
