#!/usr/bin/env python3
"""Does what a model knows of one language or accent help it with another? Kunze et al. 2017, asked of small models.

    scripts/study_transfer.py                                    # everything: hours; it says how many first
    scripts/study_transfer.py --pairs german --train 400 --epochs 8 --shares 1 0.2 --frozen 0 8 --seeds 1
    scripts/study_transfer.py --estimate                         # only say what it would cost

The embedded base, US English, is adapted to German and to Scottish English (synthetic voices), its first k layers of 11
frozen, on all of the training utterances, on half and on a fifth of them; beside it the same network is trained from
scratch on the same utterances. Kunze et al. (arXiv 1706.00290) did this with as many layers, 250 and 2,000 units wide,
from 1,000 hours of English to corpora of German, of which two runs took 50,000 and 10,000 utterances. k counts from the
input; 10 leaves the output layer alone to train. A frozen layer keeps its batch norm's statistics too.

Every run of a pair takes about as many steps: on a fifth of the data, five times the epochs. That is what `scratch`
means too; `scratch x4` takes four times the steps, on all of the data (`--times`). The epoch with the lowest WER on the
validation set counts. Adaptations are `innertune adapt`, the others `innertune pretrain`, each with the optimizer and
the learning rate of its own config (AdamW at 1e-3; Adam at 2e-3, with which the base was trained too) whatever k is;
with several `--rates`, each is tried everywhere, and of each row the one with the best validation WER is reported.

Each run is in a folder of its own below `--folder`. What is finished stays and is not done again; a run that was killed
goes on. What earlier calls found there (`result.json`) is shown with what this one finds. Columns: WER on the target
and, of adaptations, on the source, means over seeds with their 95 % intervals (Student's t), of one seed the bootstrap
interval over utterances; `caught up` is the share of its steps after which a run's validation WER is as low as that of
`scratch` ever becomes; `s` is training alone, from its start to the last epoch's end, a cached prefix included. Seeds
are of the order of the data, of augmentation and of a new network's weights; the data are the same. The picture,
`transfer.svg` in the folder (`scripts/transfer_figure.py`), shows these WERs, how far each layer's weights moved where
all may, and what each layer's change put back, or made alone, does (`causes=` of `innertune adapt`).
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

from studies import best_rates, by, drop_checkpoints, innertune, mean_interval, said, say_left_out, write_results
from transfer_figure import draw

LAYERS = 11
ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
COLUMNS = ("utterances", "frozen layers", "trained", "WER target", "WER source", "caught up", "rate", "s", "seeds")
SECONDS = 0.025  # of a step, for each utterance in it: one thread of a machine of 2026
OTHERWISE = 60.0  # seconds of a run besides: to start, and to measure before and after


@dataclass(frozen=True)
class Pair:
    """What is adapted to: an experiment of ours, its language's characters, and how much of it by default."""

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
    """One training of `train` utterances for `epochs`. `frozen` layers is None, and `times` the steps, from scratch."""

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
    """All runs, for each pair's utterances and epochs: every seed is whole before the next, what takes long is last."""
    ways = [(count, 1.0) for count in frozen] + [(None, own) for own in times]
    return [
        Run(pair, share, count, own, seed, round(share * train), max(1, round(own * epochs / share)), rate)
        for seed in range(seeds)
        for longer in (False, True)
        for pair, (train, epochs) in amounts.items() for share in shares
        for count, own in ways if (own > 1) == longer and (share == max(shares) or not longer) for rate in rates
    ]  # fmt: skip


def command(run: Run, causes: int) -> list[str]:
    """The command of a run, with its options."""
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
    alphabet = f'alphabet="={pair.labels}"'  # all of it, also where few utterances would lack a character
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
    """What a finished run found; None where it is not finished. WERs and changes are fractions."""
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
    """What a row of the table is of."""
    return tuple(found[name] for name in ("pair", "share", "frozen", "times", "train", "epochs"))


def caught_up(validation: Sequence[float], goal: float) -> float | None:
    """After which share of the epochs the validation WER is as low as `goal`; None: never."""
    return next((epoch / len(validation) for epoch, wer in enumerate(validation, 1) if wer <= goal), None)


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each pair, share, and number of frozen layers or way from scratch: means over seeds."""
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
    """The same as Markdown, a table for each pair: of each share of the data scratch first, then by frozen layers."""
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
                "—" if row["source"] is None else said(row["source"]),
                "—" if row["caught_up"] is None else f"{100 * row['caught_up']:.0f} %",
                "—" if row["rate"] is None else f"{row['rate']:g}", f"{row['training_seconds']:.0f}", str(row["seeds"]),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def way_of(row: dict[str, Any]) -> str:
    """The frozen layers of a row, or that it is from scratch, in words."""
    if row["frozen"] is None:
        return "scratch" if row["times"] == 1 else f"scratch x{row['times']:g}"
    return "none" if row["frozen"] == 0 else f"first {row['frozen']}"


def with_interval(row: dict[str, Any]) -> str:
    """The WER on the target with its interval: over seeds, or of one seed over utterances."""
    if row["interval"] is None:
        return said(row["target"])
    low, high = row["interval"]
    return f"{row['target'][0]:.1f} ({low:.1f} to {high:.1f})"


def cost(runs: Sequence[Run], results: Sequence[dict[str, Any]]) -> float:
    """How many seconds the runs will take: what we know of their sizes, times what the finished ones took of that."""

    def guess(train: int, epochs: int, frozen: int | None) -> float:
        # Of a step, all that is not the weight gradient of frozen layers; the cached prefix saves more.
        return OTHERWISE + SECONDS * train * epochs * (1 - 0.06 * (frozen or 0))

    slower = 1.0
    if results:
        known = [guess(found["train"], found["epochs"], found["frozen"]) for found in results]
        slower = sum(found["seconds"] for found in results) / sum(known)
    return slower * sum(guess(run.train, run.epochs, run.frozen) for run in runs)


def work(runs: Sequence[Run], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Do what is not done; yield what each run found."""
    for run in runs:
        folder = args.folder / run.name
        if result(args.folder, run) is None:
            log = folder.with_name(f"{folder.name}.log")
            options = [*command(run, args.causes), *args.options, f"output={folder}", "resume=true", "logger=csv"]
            if innertune(*options, quiet=log):
                say_left_out(run.name, log)
                continue
            drop_checkpoints(folder)
        yield result(args.folder, run)


def earlier(path: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What earlier calls found of other runs than these."""
    known = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    return [found for found in known if run_of(found) not in runs]


def run_of(found: dict[str, Any]) -> Run:
    """The run that found it."""
    return Run(*(found[field.name] for field in fields(Run)))


def amounts(args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, tuple[int, int]]:
    """How many utterances and epochs each pair has: those that are given, one for all pairs or one for each."""
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
    parser.add_argument("--times", nargs="+", type=float, default=[1.0, 4.0], help="the steps, from scratch")
    parser.add_argument("--train", nargs="+", type=int, help="utterances, for all pairs or for each")
    parser.add_argument("--epochs", nargs="+", type=int, help="with all of them, for all pairs or for each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", nargs="+", type=float, help="learning rates; default: that of each command")
    parser.add_argument("--causes", type=int, default=100, help="examples for the causal chart; 0: none")
    parser.add_argument("--folder", type=Path, default=Path("outputs/study_transfer"))
    parser.add_argument("--json", type=Path, help="default: result.json in the folder")
    parser.add_argument("--options", nargs="+", default=[], help="further ones of every `innertune` command")
    parser.add_argument("--estimate", action="store_true", help="say what it would cost, and stop")
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    args.json = args.json or args.folder / "result.json"
    runs = plan(amounts(args, parser), args.frozen, args.shares, args.times, args.seeds, args.rates or (None,))
    done = [found for run in runs if (found := result(args.folder, run))]
    left = [run for run in runs if result(args.folder, run) is None]
    print(f"{len(runs)} runs, {len(done)} of them done; the others will take some {cost(left, done) / 3600:.1f} hours.")
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
        keep(args, results)
    print(table(summary(results), results))
    print(f"\n{new} runs in {(time.perf_counter() - began) / 60:.0f} minutes; {args.json}")


def keep(args: argparse.Namespace, results: Sequence[dict[str, Any]]) -> None:
    """Write what is known so far, as numbers and as the picture."""
    from adapt.files import write_text

    rows, titles = summary(results), {name: pair.title for name, pair in PAIRS.items()}
    write_results(args.json, rows, results)
    write_text(args.folder / "transfer.svg", draw(rows, best_rates(results, row_of), titles))


if __name__ == "__main__":
    main()
