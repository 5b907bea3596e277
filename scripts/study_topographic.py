#!/usr/bin/env python3
"""Does a topographic penalty increase the error? The same run with several strengths, and without the penalty.

    scripts/study_topographic.py                     # the embedded base, to Scottish English: at least ten minutes
    scripts/study_topographic.py --strengths 0 1 --options data.train=200 trainer.max_epochs=5
    scripts/study_topographic.py --command pretrain --options data.train=2000     # the same, from scratch

Each run is an `innertune adapt topographic=grid` with the same seed, in its own folder below `--folder`. Finished runs
are not repeated, and interrupted ones are resumed. A run with strength 0 equals a run without the option bit by bit.
With start `weights`, the units' initial places depend on their weights; with `number`, on their numbers. The median
strength above 0 is run with both.

The table has, for each run, the WER on the target and on the source. For each layer on a grid, it has the mean cosine
similarity of neighbours' weights and Moran's I of the phoneme profiles, before and after training. "Before" is the
base, or an untrained network.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """A run with one strength and one kind of start."""

    strength: float
    start: str

    @property
    def name(self) -> str:
        return f"{self.start}-{self.strength:g}"

    @property
    def overrides(self) -> list[str]:
        return ["topographic=grid", f"topographic.strength={self.strength:g}", f"topographic.start={self.start}"]


def plan(strengths: Sequence[float]) -> list[Run]:
    """Return runs of all strengths with start "weights", and of the median strength above 0 with "number"."""
    above = sorted(strength for strength in strengths if strength > 0)
    by_number = [Run(above[(len(above) - 1) // 2], "number")] if above else []
    return [*(Run(strength, "weights") for strength in strengths), *by_number]


def done(run: Run, command: str, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of a run. Run it first if it is not finished. Raises SystemExit if it fails."""
    place = folder / run.name
    if not (place / "metrics.json").is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        short = ["causes=0", "compare_neurons=0"] if command == "adapt" else []
        given = [command, *short, *run.overrides, *options, f"output={place}", "resume=true"]
        with place.with_suffix(".log").open("a", encoding="utf-8") as log:
            code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from adapt.cli import main; main()"
            failed = subprocess.run([sys.executable, "-c", code, str(ROOT), *given], stdout=log, stderr=log).returncode
        if failed:
            raise SystemExit(f"{run.name} failed: see {place.with_suffix('.log')}")
        for checkpoint in (place / "checkpoints").glob("*.ckpt"):
            checkpoint.unlink()  # several times as large as the model
    return json.loads((place / "metrics.json").read_text(encoding="utf-8"))


def row(run: Run, found: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table: the WER in per cent by set, and the cosines and Moran's I by site."""
    wer = {name: 100 * found[name]["after"]["wer"] for name in ("target", "source") if name in found}
    return {"strength": run.strength, "start": run.start, "wer": wer, **found["topographic"]}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table, with one column per run."""
    sets, sites = rows[0]["wer"], rows[0]["sites"]
    lines = [line("", [f"{own['strength']:g}, {own['start']}" for own in rows]), "|---" * (len(rows) + 1) + "|"]
    lines += [line(f"WER {name}, %", [f"{own['wer'][name]:.1f}" for own in rows]) for name in sets]
    morans = f"Moran's I by {rows[0]['group_by']}"
    for what, called in (("neighbour_cosine", "cosine of neighbours"), ("morans_i", morans)):
        for site in sites:
            values = [own["sites"][site].get(what, {}) for own in rows]
            cells = [f"{v['before']:.2f} → {v['after']:.2f}" if v else "—" for v in values]
            lines.append(line(f"{called}, {site.rpartition('.')[2]}", cells))
    return "\n".join(lines)


def line(first: str, cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join((first, *cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", choices=("adapt", "pretrain"), default="adapt")
    parser.add_argument("--strengths", nargs="+", type=float, default=[0, 0.3, 1, 3])
    parser.add_argument("--folder", type=Path, default=Path("outputs/study_topographic"))
    parser.add_argument("--options", nargs="+", default=[], help="further options of every run")
    add_results_option(parser)
    args = parser.parse_args()
    rows = []
    for run in plan(args.strengths):
        rows.append(row(run, done(run, args.command, args.folder.absolute(), args.options)))
        wer = ", ".join(f"WER {name} {value:.1f} %" for name, value in rows[-1]["wer"].items())
        print(f"{run.name}: {wer}", flush=True)
        (args.folder / "result.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(rows))
    if args.results:
        write_table(args.results, __doc__ or "", rows, "0")


if __name__ == "__main__":
    main()
