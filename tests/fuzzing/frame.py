"""Try inputs of a kind, each in a folder of its own, and count what became of them."""

import importlib
import pkgutil
import random
import resource
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adapt.errors import InputError
from fuzzing import kinds
from interventions.files import FileError

OUTCOMES = ("accepted", "refused", "wrong", "traceback", "hang")
# A code that an input carries creates this file in the input's folder, if the code is run.
MARKER = "executed"


@dataclass(frozen=True)
class Case:
    """An input: what is wrong with it, and the function that reads it as the product does.

    `read` raises `InputError` or `FileError` to refuse the input, and `Wrong` if it was accepted with a wrong result.
    """

    damage: str
    read: Callable[[], Any]


Make = Callable[[random.Random, Path], Case]


class Wrong(Exception):  # noqa: N818 (not an error of the product, but a finding)
    """An input was accepted with a wrong result."""


class _Late(BaseException):
    """The time is over. Not an Exception, so that no handler of the product catches it."""


@dataclass
class Tally:
    """The outcomes of one kind: the number of each, and for each that is a fault what was tried and what happened."""

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, str | int]] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """The number of inputs."""
        return self.counts.total()

    def as_dict(self) -> dict[str, Any]:
        """Return the tally as JSON data."""
        counts = {outcome: self.counts[outcome] for outcome in OUTCOMES}
        return {"kind": self.kind, "tried": self.tried, **counts, "faults": self.faults}


def all_kinds() -> list[str]:
    """Return the names of all kinds."""
    return sorted(module.name for module in pkgutil.iter_modules(kinds.__path__))


def fuzz(kind: str, count: int, seed: int = 0, seconds: float = 20.0, gigabytes: float = 2.0) -> Tally:
    """Try inputs of a kind.

    Args:
        kind: The name of a module in `fuzzing.kinds`.
        count: The number of inputs.
        seed: Seed for the choice of files and damage. Some files hold paths, so inputs differ a little by folder.
        seconds: An input that takes longer counts as a hang.
        gigabytes: How much more memory than before an input may take (10⁹ bytes of address space).

    Returns:
        The outcomes.
    """
    tally = Tally(kind)
    with TemporaryDirectory(prefix="innertune-fuzz-") as root:
        work, folder = Path(root) / "work", Path(root) / "input"
        work.mkdir()
        make: Make = importlib.import_module(f"fuzzing.kinds.{kind}").prepare(work)
        for number in range(count):
            folder.mkdir()
            case = make(random.Random(f"{kind}/{seed}/{number}"), folder)
            outcome, message = attempt(case, seconds, gigabytes)
            if (folder / MARKER).exists():
                outcome, message = "wrong", "code from the file was run"
            tally.counts[outcome] += 1
            if outcome not in ("accepted", "refused"):
                tally.faults.append(
                    {"number": number, "damage": case.damage, "outcome": outcome, "message": message[-2000:]}
                )
            shutil.rmtree(folder)
    return tally


def attempt(case: Case, seconds: float, gigabytes: float) -> tuple[str, str]:
    """Read an input, and return the outcome and the message that a user would see."""
    try:
        with _limited(seconds, gigabytes):
            case.read()
    except (InputError, FileError) as error:
        message = str(error)
        is_sentence = len(message.split()) >= 4 and "Traceback" not in message and len(message) < 2000
        return ("refused" if is_sentence else "traceback"), message
    except Wrong as error:
        return "wrong", str(error)
    except _Late:
        return "hang", f"not finished after {seconds:g} s"
    except Exception:  # whatever it is, the user would see it as a traceback
        return "traceback", traceback.format_exc()
    return "accepted", ""


@contextmanager
def _limited(seconds: float, gigabytes: float) -> Iterator[None]:
    """Within this context, `_Late` is raised after some seconds, and allocating more memory than allowed fails."""

    def late(*_: object) -> None:
        raise _Late

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(gigabytes * 1e9), hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)
