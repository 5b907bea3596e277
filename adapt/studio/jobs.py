"""The studio's work: one queue, one thread with the model, results that all pages see, and cancelling at any time."""

import itertools
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from adapt.errors import InputError

State = Literal["waiting", "running", "done", "failed", "cancelled"]
MAX_WAITING = 500  # jobs that wait; more are refused
KEPT = 200  # finished jobs whose results are kept
_PAUSE = 0.1  # seconds between two messages on the progress of a job

log = logging.getLogger(__name__)


class CancelledError(Exception):
    """Raised inside a job that a person cancelled, when it next tells its progress."""


@dataclass
class Job:
    """One piece of work.

    Attributes:
        number: Its number, in the order of arrival.
        what: What it does, for people.
        run: The function; it gets the job, so that it can `tell` its progress, and returns JSON data.
        state: Where it stands.
        progress: The share that is done, from 0 to 1; None if that is not known.
        news: What it told last, as JSON data.
        result: What `run` returned.
        problem: Why it failed, as a sentence.
    """

    number: int
    what: str
    run: Callable[["Job"], Any] = field(repr=False)
    state: State = "waiting"
    progress: float | None = None
    news: Any = None
    result: Any = None
    problem: str = ""
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False)
    _told: float = 0.0
    _changed: Callable[["Job"], None] = field(default=lambda job: None, repr=False)

    def tell(self, progress: float | None = None, news: Any = None) -> None:
        """Tell how far the job is. Raises CancelledError if a person cancelled it."""
        self.check()
        self.progress = progress
        self.news = self.news if news is None else news
        now = time.monotonic()
        if now - self._told >= _PAUSE:
            self._told = now
            self._changed(self)

    def check(self) -> None:
        """Raise CancelledError if a person cancelled the job."""
        if self._cancelled.is_set():
            raise CancelledError

    def as_dict(self) -> dict[str, Any]:
        """Return the job as JSON data."""
        names = ("number", "what", "state", "progress", "news", "result", "problem")
        return {name: getattr(self, name) for name in names}


class Jobs:
    """A queue of jobs, which one thread runs in order.

    Args:
        changed: Called with a job, from any thread, when its state or its progress changes.
    """

    def __init__(self, changed: Callable[[Job], None]) -> None:
        self._changed = changed
        self._waiting: deque[Job] = deque()
        self._kept: OrderedDict[int, Job] = OrderedDict()
        self._condition = threading.Condition()
        self._numbers = itertools.count(1)
        self._open = True
        self._thread = threading.Thread(target=self._work, name="studio", daemon=True)
        self._thread.start()

    def add(self, what: str, run: Callable[[Job], Any], first: bool = False) -> Job:
        """Add a job; `first` puts it before all others that wait. Raises InputError if too many wait."""
        with self._condition:
            if len(self._waiting) >= MAX_WAITING:
                raise InputError(f"{MAX_WAITING} acts are waiting already. Wait until some are done, or cancel them.")
            job = Job(next(self._numbers), what, run, _changed=self._changed)
            (self._waiting.appendleft if first else self._waiting.append)(job)
            self._kept[job.number] = job
            self._forget()
            self._condition.notify()
        self._changed(job)
        return job

    def get(self, number: int) -> Job:
        """Return a job. Raises InputError if there is none of this number, or it is forgotten."""
        with self._condition:
            if number not in self._kept:
                raise InputError(f"There is no job {number}. Results of the last {KEPT} are kept.")
            return self._kept[number]

    def unfinished(self) -> list[Job]:
        """Return the jobs that run or wait, in their order."""
        with self._condition:
            return [job for job in self._kept.values() if job.state in ("waiting", "running")]

    def cancel(self, number: int) -> Job:
        """Cancel a job: at once if it waits, at its next step if it runs. Raises InputError as `get`."""
        job = self.get(number)
        job._cancelled.set()
        with self._condition:
            if job in self._waiting:
                self._waiting.remove(job)
                job.state = "cancelled"
        self._changed(job)
        return job

    def close(self) -> None:
        """Cancel what waits and what runs, and wait until the thread ends, for at most ten seconds."""
        with self._condition:
            self._open = False
            for job in (*self._waiting, *self._kept.values()):
                job._cancelled.set()
            self._waiting.clear()
            self._condition.notify()
        self._thread.join(10.0)

    def _forget(self) -> None:
        finished = [number for number, job in self._kept.items() if job.state not in ("waiting", "running")]
        for number in finished[: max(0, len(finished) - KEPT)]:
            del self._kept[number]

    def _work(self) -> None:
        while True:
            with self._condition:
                while self._open and not self._waiting:
                    self._condition.wait()
                if not self._open:
                    return
                job = self._waiting.popleft()
                job.state = "running"
            self._changed(job)
            try:
                job.check()
                job.result = job.run(job)
                job.state = "done"
            except CancelledError:
                job.state = "cancelled"
            except InputError as error:
                job.state, job.problem = "failed", str(error)
            except Exception as error:  # a fault of ours must not end the thread that all pages wait for
                log.exception("The studio failed to %s", job.what)
                job.state, job.problem = "failed", f"An unexpected error ({type(error).__name__}): {error}"
            self._changed(job)
