#!/usr/bin/env python3
"""What does blending with the base keep, and what does it forget less?

    scripts/study_blend.py                                  # everything; first prints how long it takes
    scripts/study_blend.py --seeds 1 --targets en-gb-scotland --arms full
    scripts/study_blend.py --estimate                       # only print the estimated time

Each run is an `innertune adapt blend=off` in its own folder below `--folder`, from the embedded base to one accent.
Finished runs and measurements are not repeated, interrupted runs are resumed. Seeds affect the order of the data and
the augmentation; the data are the same.

Arms: all weights (`full`), low-rank factors on all layers (`lora`), and all weights with as much replay as target data
(`replay`: `replay=0.5`, `data.source_train` as many as `data.train`). Ways, for each arm: `off` (what was trained),
single factors, `auto` (what the search chooses on validation data), `layers` (the searched factor per layer, whether it
was chosen or not) and `random` (the same factors, randomly assigned to the layers; the mean of three).

The table has the WER on the test sets of target and source, the share of the gain of `off` of the same arm that each
way keeps, and its share of the forgetting. Values are means over seeds with 95 % intervals (Student's t).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table
from studies import by, drop_checkpoints, format_mean, innertune, mean_interval, report_failure, write_results

BASE = "us-english"
TARGETS = ("en-gb-scotland", "en-029")
ARMS = {"full": [], "lora": ["tuning=lora"], "replay": ["replay=0.5", "data.source_train=660"]}
FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9)
SHORT = ("causes=0", "compare_neurons=0", "audio_clips=0", "blend=off")
SECONDS = {"full": 150.0, "lora": 150.0, "replay": 260.0}  # of a run and its measurements, on one thread in 2026


@dataclass(frozen=True)
class Run:
    """One adaptation, which is then blended in several ways."""

    target: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.target}-{self.arm}-{self.seed}"


def plan(targets: Sequence[str], arms: Sequence[str], seeds: int) -> list[Run]:
    """Return all runs, seed by seed."""
    return [Run(target, arm, seed) for seed in range(seeds) for target in targets for arm in arms]


def measure(run: Run, folder: Path) -> list[dict[str, Any]]:
    """Blend a finished run in all ways, and return the test WER of each."""
    from adapt.blending.evaluator import Evaluator
    from adapt.blending.interpolate import Interpolation
    from adapt.blending.related import stored_factors
    from adapt.blending.search import search
    from adapt.data.loader import Loader
    from adapt.data.synthetic.accents import accents
    from adapt.models.checkpoint import load_model

    base, adapted = load_model(BASE), load_model(str(folder))
    splits, loader = accents(target=run.target, train=0), Loader()
    line = Interpolation(base.model, adapted.model, stored_factors(adapted, base))
    validation = {"target": splits.validation, "source": splits.source_validation}
    began = time.perf_counter()
    front = search(line, validation, loader, seed=run.seed)
    seconds = time.perf_counter() - began
    tests = Evaluator(line, {"target": splits.test, "source": splits.source_test}, loader)
    before = tests.measure(0.0).errors
    ways: list[tuple[str, Any]] = [("off", 1.0), *((f"{factor:g}", factor) for factor in FACTORS)]
    chosen = front.point
    ways.append(("auto", chosen.factor if chosen.kind == "single" else chosen.layers))
    searched = [point for point in front.points if point.kind == "layers"][:1]
    ways += [("layers", point.layers) for point in searched]
    ways += [("random", point.layers) for point in front.points if point.kind == "random"]
    rows = []
    for way, factor in ways:
        errors = tests.measure(factor).errors
        mean = factor if isinstance(factor, float) else statistics.fmean(factor.values())
        rows.append({"target": run.target, "arm": run.arm, "seed": run.seed, "way": way, "factor": mean,
                     "wer": {name: {"before": before[name], "after": errors[name]} for name in before},
                     "search_seconds": seconds, "reason": front.reason})  # fmt: skip
    return rows


def result(folder: Path, run: Run) -> list[dict[str, Any]] | None:
    """Return the measurements of a run; None if it is not finished."""
    from adapt.files import is_file, read_json

    path = folder / run.name / "blends.json"
    return read_json(path) if is_file(path) else None


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each target, arm and way, averaged over seeds."""
    off = {(row["target"], row["arm"], row["seed"]): row for row in results if row["way"] == "off"}
    rows = []
    for group in by(lambda row: (row["target"], row["arm"], row["way"]), results):
        seeds = list(by(lambda row: row["seed"], group))  # `random` has several measurements of a seed

        def mean(value: Any, seeds: list[list[dict[str, Any]]] = seeds) -> tuple[float, float]:
            return mean_interval([statistics.fmean(map(value, of_seed)) for of_seed in seeds])

        def share(row: dict[str, Any], name: str) -> float:
            whole = off[row["target"], row["arm"], row["seed"]]["wer"][name]
            own = row["wer"][name]
            return 100 * (own["after"] - own["before"]) / ((whole["after"] - whole["before"]) or float("nan"))

        rows.append({
            "target": group[0]["target"], "arm": group[0]["arm"], "way": group[0]["way"],
            "factor": mean(lambda row: row["factor"]),
            "WER target": mean(lambda row: 100 * row["wer"]["target"]["after"]),
            "WER source": mean(lambda row: 100 * row["wer"]["source"]["after"]),
            "% of the gain": mean(lambda row: share(row, "target")),
            "% of the forgetting": mean(lambda row: share(row, "source")),
            "seeds": len(seeds),
        })  # fmt: skip
    return rows


def work(runs: Sequence[Run], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run and measure what is not finished, and return all measurements."""
    from adapt.files import is_file, write_json

    results: list[dict[str, Any]] = []
    for run in runs:
        folder, found = args.folder / run.name, result(args.folder, run)
        if found is None:
            options = [f"model.pretrained={BASE}", f"data.target={run.target}", f"seed={run.seed}", *ARMS[run.arm]]
            log = args.folder / f"{run.name}.log"
            if not is_file(folder / "metrics.json"):
                if innertune("adapt", *options, f"output={folder}", "resume=true", *SHORT, *args.options, log=log):
                    report_failure(run.name, log)
                    continue
                drop_checkpoints(folder)
            found = measure(run, folder)
            write_json(folder / "blends.json", found)
        results += found
        for row in found:
            wer = {name: 100 * row["wer"][name]["after"] for name in ("target", "source")}
            print(f"  {run.name} {row['way']} ({row['factor']:.2f}): target {wer['target']:.1f}, "
                  f"source {wer['source']:.1f}", flush=True)  # fmt: skip
        write_results(args.json or args.folder / "result.json", summary(results), results)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), help="accents of conf/data/accents.yaml")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("outputs/study_blend"))
    parser.add_argument("--json", type=Path, help="default: result.json in the folder")
    parser.add_argument("--options", nargs="+", default=[], help="further options of every `innertune adapt`")
    parser.add_argument("--estimate", action="store_true", help="only print the estimated time")
    add_results_option(parser)
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    runs = plan(args.targets, args.arms, args.seeds)
    left = [run for run in runs if result(args.folder, run) is None]
    minutes = sum(SECONDS[run.arm] for run in left) / 60
    print(f"{len(runs)} runs, {len(runs) - len(left)} finished; the others take about {minutes:.0f} minutes.")
    if args.estimate:
        return
    rows = summary(work(runs, args))
    for row in rows:
        print("  ".join(format_mean(value) if isinstance(value, tuple) else str(value) for value in row.values()))
    if args.results:
        shown = [
            {name: format_mean(value) if isinstance(value, tuple) else value for name, value in row.items()}
            for row in rows
        ]
        write_table(args.results, __doc__ or "", shown, f"{args.seeds} seeds")


if __name__ == "__main__":
    main()
