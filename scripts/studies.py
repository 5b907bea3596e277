"""Functions that the studies share: run `innertune` in a process, and average over seeds."""

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

ROOT = Path(__file__).resolve().parent.parent


def innertune(*arguments: str, log: Path) -> int:
    """Run a command in a process of its own, append its output to the file `log`, and return its exit status."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        done = subprocess.run(
            [sys.executable, "-m", "adapt.cli", *arguments], env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    return done.returncode


def report_failure(name: str, log: Path) -> None:
    """Print that a run failed, with the last line of its log."""
    last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
    print(f"  {name}: failed, left out. {' '.join(last)}", flush=True)


def drop_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a finished run, which are six times as large as the model."""
    for checkpoint in (folder / "checkpoints").glob("*.ckpt"):
        checkpoint.unlink()


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval (Student's t); NaN for a single value."""
    if len(values) < 2:
        return statistics.fmean(values), math.nan
    factor = float(stdtrit(len(values) - 1, 0.975))
    return statistics.fmean(values), factor * statistics.stdev(values) / math.sqrt(len(values))


def format_mean(value: tuple[float, float]) -> str:
    """Return a mean and its interval as text, with one decimal."""
    return f"{value[0]:.1f}" if math.isnan(value[1]) else f"{value[0]:.1f} ± {value[1]:.1f}"


def by(key: Callable[[dict[str, Any]], Hashable], results: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield groups of results with the same key, in the order in which the keys first occur."""
    groups: dict[Hashable, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    yield from groups.values()


def best_rates(results: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], Hashable]) -> list[dict[str, Any]]:
    """Return, for each key, the results at the learning rate with the lowest mean WER on the validation set."""
    chosen: list[dict[str, Any]] = []
    for group in by(key, results):
        rates = list(by(lambda result: result["rate"], group))
        seeds = max(map(len, rates))  # rates that were not tried with all seeds are not comparable
        complete = [runs for runs in rates if len(runs) == seeds]
        chosen += min(complete, key=lambda runs: statistics.fmean(run["validation_wer"] for run in runs))
    return chosen


def write_results(path: Path, rows: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> None:
    """Write the results so far as JSON. NaN in what `mean_interval` returned becomes null."""
    from adapt.files import write_json

    plain = [
        {
            name: [None if math.isnan(part) else part for part in value] if isinstance(value, tuple) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    write_json(path, {"rows": plain, "runs": list(results)})
