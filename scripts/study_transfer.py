#!/usr/bin/env python3
"""Does a model of one language or accent help to learn another? After Kunze et al. 2017, with small models.

    scripts/study_transfer.py                                    # everything; takes hours and first prints how many
    scripts/study_transfer.py --pairs german --train 400 --epochs 8 --shares 1 0.2 --frozen 0 8 --seeds 1
    scripts/study_transfer.py --estimate                         # only print the estimated time

The embedded base (US English) is adapted to German and to Scottish English with synthetic voices. Its first k of 11
layers are frozen, counted from the input; with k = 10 only the output layer is trained. Frozen layers also keep the
statistics of their batch norms. Training uses all utterances, half, or a fifth of them. For comparison, the same
network is trained from scratch on the same utterances. Kunze et al. (arXiv 1706.00290) did this with the same number
of layers, 250 and 2,000 units wide, from 1,000 hours of English to German corpora, in two runs of 50,000 and 10,000
utterances.

All runs of a pair, including `scratch`, take about the same number of steps: on a fifth of the data, five times as
many epochs. `scratch x4` takes four times as many steps on all of the data (`--times`). The result is that of the
epoch with the lowest validation WER. Adaptations use `innertune adapt`, the others `innertune pretrain`, with the
optimizer and learning rate of their configs (AdamW at 1e-3, and Adam at 2e-3 as for the base). With several `--rates`,
all are run, and each row shows the rate with the best validation WER.

Each run has its own folder below `--folder`. Finished runs are not repeated, and interrupted ones are resumed. Results
of earlier calls (`result.json`) are included. The table has the WER on the target and, for adaptations, on the source:
means over seeds with 95 % intervals (Student's t); for a single seed, the bootstrap interval over utterances. `caught
up` is the share of its steps after which a run reaches the lowest validation WER of `scratch`. `s` is the training
time, including that of a cached prefix. Seeds affect the order of the data, the augmentation and the weights of new
networks; the data is the same.

The figure, `transfer.svg` in the folder (`scripts/transfer_figure.py`), shows these WERs, how much the weights of each
layer changed, and the effect of reverting or applying the change of one layer (`causes=` of `innertune adapt`).
"""

import argparse
import json
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
from studies import (
    best_rates,
    by,
    drop_checkpoints,
    format_mean,
    innertune,
    mean_interval,
    report_failure,
    write_results,
)
from transfer_figure import draw

LAYERS = 11
ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
COLUMNS = ("utterances", "frozen layers", "trained", "WER target", "WER source", "caught up", "rate", "s", "seeds")
SECONDS = 0.025  # per utterance in a step, on one thread in 2026
OVERHEAD = 60.0  # seconds per run to start, and to evaluate before and after


@dataclass(frozen=True)
class Pair:
    """What to adapt to: its experiment, voice and characters, and the default numbers of utterances and epochs."""

    title: str
    experiment: str
    voice: str
    labels: str
    train: int
    epochs: int


PAIRS = {
    "german": Pair("US English to German", "english_to_german", "de", f"{ALPHABET}ßäöü", 800, 15),
    "scottish": Pair("US English to Scottish English", "us_to_scottish", "en-gb-scotland", ALPHABET, 660, 10),
}


@dataclass(frozen=True)
class Run:
    """One training run. From scratch, `frozen` is None, and `times` multiplies the number of steps."""

    pair: str
    share: float
    frozen: int | None
    times: float
    seed: int
    train: int
    epochs: int
    rate: float | None = None

    @property
    def name(self) -> str:
        way = f"scratch-x{self.times:g}" if self.frozen is None else f"frozen-{self.frozen}"
        rate = "" if self.rate is None else f"-lr{self.rate:g}"
        return f"{self.pair}/{way}-{self.train}-{self.epochs}{rate}-{self.seed}"


def plan(
    amounts: dict[str, tuple[int, int]],
    frozen: Sequence[int],
    shares: Sequence[float],
    times: Sequence[float],
    seeds: int,
    rates: Sequence[float | None] = (None,),
) -> list[Run]:
    """Return all runs, seed by seed, with the longest last. `amounts` are utterances and epochs of each pair."""
    ways = [(count, 1.0) for count in frozen] + [(None, own) for own in times]
    return [
        Run(pair, share, count, own, seed, round(share * train), max(1, round(own * epochs / share)), rate)
        for seed in range(seeds)
        for longer in (False, True)
        for pair, (train, epochs) in amounts.items() for share in shares
        for count, own in ways if (own > 1) == longer and (share == max(shares) or not longer) for rate in rates
    ]  # fmt: skip


def command(run: Run, causes: int) -> list[str]:
    """Return the command of a run, with its options."""
    pair = PAIRS[run.pair]
    given = [f"seed={run.seed}", f"data.train={run.train}", f"trainer.max_epochs={run.epochs}"]
    given += [] if run.rate is None else [f"optimizer.lr={run.rate}"]
    if run.frozen is None:
        speeds = "loader.speeds=[0.88,0.94,1.0,1.06,1.12]"  # as in conf/adapt.yaml
        target = ["data=accents", f"data.target={pair.voice}", "data.source_test=0"]
        return ["pretrain", *target, f'model.labels="{pair.labels}"', speeds, *given]
    tuning = ["tuning=full"]
    if run.frozen:
        tuning = ["tuning=layers", f"tuning.layers=last {LAYERS - run.frozen}"]
    alphabet = f'alphabet="={pair.labels}"'  # all characters, even if few utterances lack one
    causes = 0 if run.frozen else causes
    return [
        "adapt",
        f"experiment={pair.experiment}",
        alphabet,
        *tuning,
        *given,
        f"causes={causes}",
        "compare_neurons=0",
    ]


def result(folder: Path, run: Run) -> dict[str, Any] | None:
    """Return the results of a run, with WERs and changes as fractions; None if it is not finished."""
    path = folder / run.name / "metrics.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    weights, target = found["weights"], found["target"]
    own = asdict(run) | {
        "wer": target["after"]["wer"], "interval": target["after"]["wer_interval"], "before": None, "source": None,
        "trained": weights.get("trained", weights["total"]) / weights["total"], "layers": None, "causes": None,
        "validation": [row["val_wer"] for row in found["history"]], "seconds": found["seconds"],
        "training_seconds": found["history"][-1]["seconds"],
    }  # fmt: skip
    own["validation_wer"] = min(own["validation"])
    if run.frozen is None:
        return own
    compared = json.loads(path.with_name("comparison.json").read_text(encoding="utf-8"))
    own["before"] = target["before"]["wer"]
    own["source"] = {when: found["source"][when]["wer"] for when in ("before", "after")}
    own["layers"] = {layer["name"].rpartition(".")[2]: layer["relative"] for layer in compared["weights"]["layers"]}
    if causes := compared.get("causes"):
        own["causes"] = {
            "before": causes["before"]["target"]["wer"], "after": causes["after"]["target"]["wer"],
            "examples": causes["examples"]["target"],
            "parts": [
                {"part": part["part"].rpartition(".")[2], "kind": part["kind"],
                 **{way: part[stored]["target"]["values"]["wer"]
                    for way, stored in (("without", "reverted"), ("alone", "applied"))}}
                for part in causes["parts"]
            ],
        }  # fmt: skip
    return own


def row_of(found: dict[str, Any]) -> tuple[Any, ...]:
    """Return what identifies a row of the table."""
    return tuple(found[name] for name in ("pair", "share", "frozen", "times", "train", "epochs"))


def caught_up(validation: Sequence[float], goal: float) -> float | None:
    """Return the share of the epochs after which the validation WER is at most `goal`; None if it never is."""
    return next((epoch / len(validation) for epoch, wer in enumerate(validation, 1) if wer <= goal), None)


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each pair, share and number of frozen layers (or steps from scratch): means over seeds."""
    results = best_rates(results, row_of)
    scratch = {
        (found["pair"], found["train"], found["epochs"], found["seed"]): found["validation_wer"]
        for found in results
        if found["frozen"] is None and found["times"] == 1
    }
    rows = []
    for own in by(row_of, results):
        first = own[0]
        row = {name: first[name] for name in ("pair", "share", "frozen", "times", "train", "epochs", "rate")}
        row |= {"seeds": len(own), "target": mean_interval([100 * found["wer"] for found in own])}
        row["source"], row["interval"] = None, None
        if len(own) == 1:
            row["interval"] = [100 * end for end in first["interval"]]
        if first["source"] is not None:
            row["source"] = mean_interval([100 * found["source"]["after"] for found in own])
        row |= {name: statistics.fmean(found[name] for found in own) for name in ("trained", "training_seconds")}
        goals = [scratch.get((found["pair"], found["train"], found["epochs"], found["seed"])) for found in own]
        when = [
            None if goal is None else caught_up(found["validation"], goal)
            for found, goal in zip(own, goals, strict=True)
        ]
        row["caught_up"] = None if None in when or first["frozen"] is None else statistics.fmean(when)
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> str:
    """Return one Markdown table per pair, sorted by share: first from scratch, then by frozen layers."""
    lines = []
    for own in by(lambda row: row["pair"], rows):
        pair = own[0]["pair"]
        adapted = [found for found in results if found["pair"] == pair and found["source"]]
        before = ""
        if adapted:
            before = f": WER % before: target {100 * adapted[0]['before']:.1f}, "
            before += f"source {100 * adapted[0]['source']['before']:.1f}"
        lines += [f"\n{PAIRS[pair].title}{before}\n", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        order = {True: lambda row: (0, row["times"]), False: lambda row: (1, row["frozen"])}
        for row in sorted(own, key=lambda row: (-row["share"], *order[row["frozen"] is None](row))):
            shown = [
                str(row["train"]), way_of(row), f"{100 * row['trained']:.1f} %", with_interval(row),
                "—" if row["source"] is None else format_mean(row["source"]),
                "—" if row["caught_up"] is None else f"{100 * row['caught_up']:.0f} %",
                "—" if row["rate"] is None else f"{row['rate']:g}", f"{row['training_seconds']:.0f}", str(row["seeds"]),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def way_of(row: dict[str, Any]) -> str:
    """Return the frozen layers of a row, or that it is from scratch, as text."""
    if row["frozen"] is None:
        return "scratch" if row["times"] == 1 else f"scratch x{row['times']:g}"
    return "none" if row["frozen"] == 0 else f"first {row['frozen']}"


def with_interval(row: dict[str, Any]) -> str:
    """Return the WER on the target with its interval as text."""
    if row["interval"] is None:
        return format_mean(row["target"])
    low, high = row["interval"]
    return f"{row['target'][0]:.1f} ({low:.1f} to {high:.1f})"


def cost(runs: Sequence[Run], results: Sequence[dict[str, Any]]) -> float:
    """Estimate the seconds that runs will take, from their sizes and the speed of finished runs."""

    def guess(train: int, epochs: int, frozen: int | None) -> float:
        # Frozen layers save their weight gradients; a cached prefix saves more.
        return OVERHEAD + SECONDS * train * epochs * (1 - 0.06 * (frozen or 0))

    slower = 1.0
    if results:
        known = [guess(found["train"], found["epochs"], found["frozen"]) for found in results]
        slower = sum(found["seconds"] for found in results) / sum(known)
    return slower * sum(guess(run.train, run.epochs, run.frozen) for run in runs)


def work(runs: Sequence[Run], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run what is not finished, and yield the results of each run."""
    for run in runs:
        folder = args.folder / run.name
        if result(args.folder, run) is None:
            log = folder.with_name(f"{folder.name}.log")
            options = [*command(run, args.causes), *args.options, f"output={folder}", "resume=true", "logger=csv"]
            if innertune(*options, log=log):
                report_failure(run.name, log)
                continue
            drop_checkpoints(folder)
        yield result(args.folder, run)


def earlier(path: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the results of other runs than these from earlier calls."""
    known = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    return [found for found in known if run_of(found) not in runs]


def run_of(found: dict[str, Any]) -> Run:
    """Return the run of a result."""
    return Run(*(found[field.name] for field in fields(Run)))


def amounts(args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, tuple[int, int]]:
    """Return the numbers of utterances and epochs of each pair, from options with one number or one per pair."""
    given = {}
    for name in ("train", "epochs"):
        own = getattr(args, name) or [getattr(PAIRS[pair], name) for pair in args.pairs]
        if len(own) not in (1, len(args.pairs)):
            parser.error(f"--{name} takes one number, or one for each of {' '.join(args.pairs)}; got {len(own)}")
        given[name] = own * len(args.pairs) if len(own) == 1 else own
    return dict(zip(args.pairs, zip(given["train"], given["epochs"], strict=True), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", choices=tuple(PAIRS), default=list(PAIRS))
    parser.add_argument("--frozen", nargs="+", type=int, choices=range(LAYERS), default=[0, 2, 4, 6, 8, 9, 10],
                        metavar="K", help="numbers of frozen layers, 0 to 10")  # fmt: skip
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.5, 0.2])
    parser.add_argument("--times", nargs="+", type=float, default=[1.0, 4.0], help="factors of the steps from scratch")
    parser.add_argument("--train", nargs="+", type=int, help="utterances: one number, or one per pair")
    parser.add_argument("--epochs", nargs="+", type=int, help="epochs with all utterances: one number, or one per pair")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", nargs="+", type=float, help="learning rates; default: that of each command")
    parser.add_argument("--causes", type=int, default=100, help="examples for the causal analysis; 0: none")
    parser.add_argument("--folder", type=Path, default=Path("outputs/study_transfer"))
    parser.add_argument("--json", type=Path, help="default: result.json in the folder")
    parser.add_argument("--options", nargs="+", default=[], help="further options of every `innertune` command")
    parser.add_argument("--estimate", action="store_true", help="only print the estimated time")
    add_results_option(parser)
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    args.json = args.json or args.folder / "result.json"
    runs = plan(amounts(args, parser), args.frozen, args.shares, args.times, args.seeds, args.rates or (None,))
    done = [found for run in runs if (found := result(args.folder, run))]
    left = [run for run in runs if result(args.folder, run) is None]
    print(f"{len(runs)} runs, {len(done)} finished; the others take about {cost(left, done) / 3600:.1f} hours.")
    if args.estimate:
        return
    results = earlier(args.json, runs)
    began, new = time.perf_counter(), 0
    for found in work(runs, args):
        results.append(found)
        if (run := run_of(found)) in left:
            new += 1
            rest = cost([other for other in left if result(args.folder, other) is None], results) / 60
            print(f"  {run.name}: target {100 * found['wer']:.1f}, {100 * found['trained']:.1f} % trained; "
                  f"{rest:.0f} minutes left", flush=True)  # fmt: skip
        save(args, results)
    print(table(summary(results), results))
    if args.results:
        write_table(args.results, __doc__ or "", summary(results), f"{args.seeds} seeds")
    print(f"\n{new} runs in {(time.perf_counter() - began) / 60:.0f} minutes; {args.json}")


def save(args: argparse.Namespace, results: Sequence[dict[str, Any]]) -> None:
    """Write the results so far and their figure."""
    from adapt.files import write_text

    rows, titles = summary(results), {name: pair.title for name, pair in PAIRS.items()}
    write_results(args.json, rows, results)
    write_text(args.folder / "transfer.svg", draw(rows, best_rates(results, row_of), titles))


if __name__ == "__main__":
    main()
