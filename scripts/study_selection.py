#!/usr/bin/env python3
"""Does it matter which weights are trained? Compare ways to select them, with equal numbers of trained weights.

    scripts/study_selection.py                                   # everything; takes hours and first prints how many
    scripts/study_selection.py --seeds 1 --shares 0.05 --data accents --ways random rgn full
    scripts/study_selection.py --fsdd ../shared/data/fsdd        # also with real recordings
    scripts/study_selection.py --estimate                        # only print the estimated time

Each run is an `innertune adapt` in its own folder below `--folder`. Finished runs are not repeated, interrupted ones
are resumed, and the table also has finished runs of other ways. `accents` (synthetic) adapts the embedded base from US
to Scottish English. `fsdd` (real) trains a base on three speakers first, and adapts it to a fourth. Seeds affect the
order of the data, the augmentation and random selections; the data is the same.

Ways to select a share of the weights: neurons at random (`random`) or with the highest scores (`rgn` and other
scores), the same share in each layer, or from all layers together (`rgn, free`); the neurons closest to the output
(`top layers`) or to the input (`bottom layers`); whole layers by relative gradient norm (`layers by rgn`); `lora` on
all convolutions, with the closest rank; `change`: the neurons that full fine-tuning with the same seed changed most.
`surgical` and `full` have their own numbers of weights. The best learning rate may depend on the number of trained
weights: with several `--rates`, all are run, and the table shows the rate with the best validation WER for each way
and share.

The table has the WER after adaptation on the target and on the source. The gain is the improvement on the target, and
forgetting is the increase on the source. Values are means over seeds with 95 % intervals (Student's t); these do not
cover other data. Seconds are training time only; `seconds` in the JSON includes selection and evaluation.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table
from studies import best_rates, drop_checkpoints, format_mean, innertune, mean_interval, report_failure, write_results

MEASURES = ("random", "weight", "rgn", "fisher", "activation_gap", "gradient_gap", "ablation")
FREE = ("rgn", "fisher", "gradient_gap", "ablation")
WAYS = (
    *MEASURES, *(f"{name}, free" for name in FREE), "change", "top layers", "bottom layers", "layers by rgn", "lora",
    "surgical", "full",
)  # fmt: skip
COLUMNS = ("share", "way", "trained", "WER target", "WER source", "of full's gain", "of full's forgetting", "rate", "s",
           "seeds")  # fmt: skip
OF_FULL = ("gain_of_full", "forgetting_of_full")
SHORT = ("causes=0", "compare_neurons=0")  # these parts of the report take longer than a short run
WHOLE = ("surgical", "full")  # these ways ignore the share
SECONDS = {"accents": 110.0, "fsdd": 40.0}  # per run on one thread in 2026, until runs are finished here
LENGTH = {"accents": ["data.source_train=200"], "fsdd": ["experiment=fsdd_accent", "data.source_train=60"]}


@dataclass(frozen=True)
class Run:
    """One fine-tuning run. `share` is None for a way that ignores it."""

    data: str
    way: str
    share: float | None
    seed: int
    rate: float | None = None

    @property
    def name(self) -> str:
        share = "" if self.share is None else f"-{100 * self.share:g}"
        rate = "" if self.rate is None else f"-lr{self.rate:g}"
        return f"{self.data}/{self.way.replace(', ', '-').replace(' ', '-')}{share}{rate}-{self.seed}"


def plan(
    data: Sequence[str],
    ways: Sequence[str],
    shares: Sequence[float],
    seeds: int,
    rates: Sequence[float | None] = (None,),
) -> list[Run]:
    """Return all runs, seed by seed, in an order in which each run comes after those that it needs."""
    order = sorted(ways, key=lambda way: (way != "full", WAYS.index(way)))
    return [
        Run(name, way, share, seed, rate)
        for name in data for seed in range(seeds) for way in order
        for share in ([None] if way in WHOLE else shares) for rate in rates
    ]  # fmt: skip


def overrides(run: Run, folder: Path, base: str) -> list[str]:
    """Return the options of `innertune adapt` for a run."""
    way, _, free = run.way.partition(", ")
    options = [f"seed={run.seed}", f"model.pretrained={base}", *LENGTH[run.data]]
    options += [] if run.rate is None else [f"optimizer.lr={run.rate}"]
    if way == "full":
        return [*options, "tuning=full"]
    if way == "surgical":
        return [*options, "tuning=surgical"]
    if way == "lora":
        return [*options, "tuning=lora", f"tuning.r={rank(base, run.share)}"]
    if way == "layers by rgn":
        return [*options, "tuning=layers", "tuning.choose=rgn", f"tuning.top={run.share}"]
    options += ["tuning=neurons", f"tuning.weight_share={run.share}", f"tuning.per_site={'false' if free else 'true'}"]
    if way.endswith("layers"):
        path = depth(folder, base, run, from_top=way.startswith("top"))
        return [*options[:-1], "tuning.per_site=false", f"tuning.choose={path}"]
    if way == "change":
        way = str(folder / Run(run.data, "full", None, run.seed, run.rate).name)
    return [*options, f"tuning.choose={way}"]


def depth(folder: Path, base: str, run: Run, from_top: bool) -> Path:
    """Save scores that rank neurons by their distance to the output (or the input), and return the path.

    Neurons of the same layer are in random order.
    """
    import torch

    from adapt.models.checkpoint import load_model
    from adapt.tuning.selection import tunable
    from interventions.neurons import Scores

    sites = tunable(load_model(base).model)
    draw = torch.Generator().manual_seed(run.seed)
    sign = 1 if from_top else -1
    path = folder / run.data / f"{'top' if from_top else 'bottom'}-{run.seed}.safetensors"
    Scores({site: sign * place + torch.rand(site.units, generator=draw) for place, site in enumerate(sites)}).save(path)
    return path


def rank(base: str, share: float) -> int:
    """Return the rank of LoRA on all convolutions whose number of weights is closest to the share."""
    from adapt.models.checkpoint import load_model
    from interventions.sites import find_sites

    model = load_model(base).model
    shapes = [model.get_submodule(site.name).weight.shape for site in find_sites(model)]
    one = sum(math.prod(shape[1:]) + shape[0] for shape in shapes)
    return max(1, round(share * sum(parameter.numel() for parameter in model.parameters()) / one))


def result(folder: Path, run: Run) -> dict[str, Any] | None:
    """Return the results of a run; None if it is not finished."""
    path = folder / run.name / "metrics.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    card = json.loads(path.with_name("card.json").read_text(encoding="utf-8"))
    wer = {name: {when: found[name][when]["wer"] for when in ("before", "after")} for name in ("target", "source")}
    return {
        **asdict(run), "wer": wer, "validation_wer": min(row["val_wer"] for row in found["history"]),
        "trained": found["weights"]["parameters"] / found["weights"]["total"],
        "selection": card.get("selection", card.get("choice", "")),
        "seconds": found["seconds"], "training_seconds": found["history"][-1]["seconds"],
    }  # fmt: skip


def way_of(found: dict[str, Any]) -> tuple[str, float | None, str]:
    """Return what identifies a row of the table."""
    return found["data"], found["share"], found["way"]


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each data set, way and share: means over seeds, also relative to full fine-tuning."""
    rows, results = [], best_rates(results, way_of)
    for key in dict.fromkeys(map(way_of, results)):
        own = [found for found in results if way_of(found) == key]
        full = {found["seed"]: found for found in results if (found["data"], found["way"]) == (key[0], "full")}
        both = [(found, full[found["seed"]]) for found in own if found["seed"] in full]
        row = {"data": key[0], "share": key[1], "way": key[2], "rate": own[0]["rate"], "seeds": len(own)}
        row |= {name: statistics.fmean(found[name] for found in own) for name in ("trained", "training_seconds")}
        for name in ("target", "source"):
            row[name] = mean_interval([100 * found["wer"][name]["after"] for found in own])
        for name, of in (("gain_of_full", gain), ("forgetting_of_full", forgetting)):
            mine, whole = (sum(of(pair[place]) for pair in both) for place in (0, 1))
            row[name] = mine / whole if whole > 0 else None
        rows.append(row)
    return rows


def gain(run: dict[str, Any]) -> float:
    return run["wer"]["target"]["before"] - run["wer"]["target"]["after"]


def forgetting(run: dict[str, Any]) -> float:
    return run["wer"]["source"]["after"] - run["wer"]["source"]["before"]


def table(rows: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> str:
    """Return one Markdown table per data set, sorted by share and by WER on the target."""
    lines = []
    for data in dict.fromkeys(row["data"] for row in rows):
        one = next(r for r in results if r["data"] == data)
        before = {name: 100 * one["wer"][name]["before"] for name in ("target", "source")}
        lines += [
            f"\n{data}: WER % before: target {before['target']:.1f}, source {before['source']:.1f}\n",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
        ]
        own = [row for row in rows if row["data"] == data]
        for row in sorted(own, key=lambda row: (row["share"] is None, row["share"] or 0, row["target"][0])):
            shown = [
                "own" if row["share"] is None else f"{100 * row['share']:g} %", row["way"],
                f"{100 * row['trained']:.1f} %", format_mean(row["target"]), format_mean(row["source"]),
                *("—" if row[key] is None else f"{100 * row[key]:.0f} %" for key in OF_FULL),
                "—" if row["rate"] is None else f"{row['rate']:g}", f"{row['training_seconds']:.0f}", str(row["seeds"]),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def cost(runs: Sequence[Run], results: Sequence[dict[str, Any]]) -> float:
    """Estimate the seconds that runs will take, from the mean of finished runs or else from `SECONDS`."""

    def one(data: str) -> float:
        known = [r["seconds"] for r in results if r["data"] == data]
        return statistics.fmean(known) if known else SECONDS[data]

    return sum(one(run.data) + 12 for run in runs)  # 12 s to start a process


def base_of(data: str, args: argparse.Namespace) -> str:
    """Return the base to adapt. The base of fsdd is trained if it does not exist."""
    if data == "accents":
        return "us-english"
    folder = args.folder / "fsdd" / "base"
    if not (folder / "metrics.json").is_file():
        options = [
            "experiment=fsdd_base",
            f"data.folder={args.fsdd}",
            f"output={folder}",
            "resume=true",
            *args.base_options,
        ]
        if innertune("pretrain", *options, log=args.folder / "fsdd" / "base.log"):
            raise SystemExit(f"Training the base of fsdd failed: see {args.folder / 'fsdd' / 'base.log'}")
    return str(folder)


def work(runs: Sequence[Run], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run what is not finished, and yield the results of each run."""
    for run in runs:
        folder = args.folder / run.name
        if result(args.folder, run) is None:
            base = base_of(run.data, args)
            place = [f"data.folder={args.fsdd}"] if run.data == "fsdd" else []
            options = overrides(run, args.folder, base)
            log = folder.with_name(f"{folder.name}.log")
            arguments = [*options, *place, f"output={folder}", "resume=true", "logger=csv", *SHORT, *args.options]
            if innertune("adapt", *arguments, log=log):
                report_failure(run.name, log)
                continue
            drop_checkpoints(folder)
        yield result(args.folder, run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=("accents", "fsdd"), help="default: accents, and fsdd with --fsdd")
    parser.add_argument("--fsdd", type=Path, help="the folder of the Free Spoken Digit Dataset")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.01, 0.05, 0.2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", nargs="+", type=float, help="learning rates; default: that of conf/adapt.yaml")
    parser.add_argument("--folder", type=Path, default=Path("outputs/study_selection"))
    parser.add_argument("--json", type=Path, help="default: result.json in the folder")
    parser.add_argument("--options", nargs="+", default=[], help="further options of every `innertune adapt`")
    parser.add_argument("--base-options", nargs="+", default=[], help="options of `innertune pretrain` for fsdd")
    parser.add_argument("--estimate", action="store_true", help="only print the estimated time")
    add_results_option(parser)
    args = parser.parse_args()
    args.folder, args.fsdd = args.folder.absolute(), args.fsdd and args.fsdd.absolute()
    data = args.data or ["accents", *(["fsdd"] if args.fsdd else [])]
    if "fsdd" in data and not (args.fsdd and args.fsdd.is_dir()):
        parser.error("--data fsdd needs --fsdd FOLDER")
    from adapt.commands.show import config_folder

    ways = [way for way in args.ways if way != "lora" or (config_folder() / "tuning" / "lora.yaml").is_file()]
    ways += ["full"] if "change" in ways and "full" not in ways else []
    runs = plan(data, ways, args.shares, args.seeds, args.rates or (None,))
    done = [found for run in runs if (found := result(args.folder, run))]
    left = [run for run in runs if result(args.folder, run) is None]
    print(f"{len(runs)} runs, {len(done)} finished; the others take about {cost(left, done) / 3600:.1f} hours.")
    if args.estimate:
        return
    others = [run for run in plan(data, WAYS, args.shares, args.seeds, args.rates or (None,)) if run not in runs]
    results = [found for run in others if (found := result(args.folder, run))]
    began, new = time.perf_counter(), 0
    for found in work(runs, args):
        results.append(found)
        run = Run(*(found[field.name] for field in fields(Run)))
        if run in left:
            new += 1
            wer = {name: 100 * found["wer"][name]["after"] for name in ("target", "source")}
            rest = cost([other for other in left if result(args.folder, other) is None], results) / 60
            print(f"  {run.name}: target {wer['target']:.1f}, source {wer['source']:.1f}, "
                  f"{100 * found['trained']:.1f} % trained; {rest:.0f} minutes left", flush=True)  # fmt: skip
        write_results(args.json or args.folder / "result.json", summary(results), results)
    print(table(summary(results), results))
    if args.results:
        write_table(args.results, __doc__ or "", summary(results), f"{args.seeds} seeds")
    print(
        f"\n{new} runs in {(time.perf_counter() - began) / 60:.0f} minutes; {args.json or args.folder / 'result.json'}"
    )


if __name__ == "__main__":
    main()
