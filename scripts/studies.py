"""What the studies beside this file share: they run `innertune` as a user would, and take means over seeds."""

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
T_975 = (math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # Student's, by degrees of freedom


def innertune(*arguments: str, quiet: Path) -> int:
    """Run a command as a user would; its output goes to the file `quiet`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    quiet.parent.mkdir(parents=True, exist_ok=True)
    with quiet.open("a") as out:
        done = subprocess.run(
            [sys.executable, "-m", "adapt.cli", *arguments], env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    return done.returncode


def say_left_out(name: str, log: Path) -> None:
    """Say of a run that failed the last line of its log."""
    last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
    print(f"  {name}: left out. {' '.join(last)}", flush=True)


def drop_checkpoints(folder: Path) -> None:
    """Delete those of a finished run, six times the model's size."""
    for checkpoint in (folder / "checkpoints").glob("*.ckpt"):
        checkpoint.unlink()


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of the 95 % interval around it; NaN where there is one value alone."""
    if len(values) < 2:
        return statistics.fmean(values), math.nan
    factor = T_975[len(values) - 1] if len(values) <= len(T_975) else 1.96
    return statistics.fmean(values), factor * statistics.stdev(values) / math.sqrt(len(values))


def said(value: tuple[float, float]) -> str:
    """A mean with its interval, with one decimal."""
    return f"{value[0]:.1f}" if math.isnan(value[1]) else f"{value[0]:.1f} ± {value[1]:.1f}"


def by(key: Callable[[dict[str, Any]], Hashable], results: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The results that share a key, key by key in the order of their first."""
    groups: dict[Hashable, list[dict[str, Any]]] = {}
    for found in results:
        groups.setdefault(key(found), []).append(found)
    yield from groups.values()


def best_rates(results: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], Hashable]) -> list[dict[str, Any]]:
    """Of the results that share a key, those at the learning rate with the lowest mean WER on the validation set."""
    chosen: list[dict[str, Any]] = []
    for own in by(key, results):
        rates = list(by(lambda found: found["rate"], own))
        most = max(map(len, rates))  # those that were tried on all seeds
        whole = [same for same in rates if len(same) == most]
        chosen += min(whole, key=lambda same: statistics.fmean(found["validation_wer"] for found in same))
    return chosen


def write_results(path: Path, rows: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> None:
    """Keep what is known so far; what `mean_interval` gave has null for an interval that there is not."""
    from adapt.files import write_json

    plain = [
        {
            name: [None if math.isnan(part) else part for part in value] if isinstance(value, tuple) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    write_json(path, {"rows": plain, "runs": list(results)})
