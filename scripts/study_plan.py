#!/usr/bin/env python3
"""Are 5 chosen minutes as good as 10 random ones, and does a learning curve say what more data gives?

    scripts/study_plan.py                        # everything; first prints how long it takes
    scripts/study_plan.py --seeds 1 --ways random-5 random-10 combined-5
    scripts/study_plan.py --estimate             # only print the estimated time

The embedded base, US English, is adapted to Scottish English (synthetic). Each seed has a pool of its own with 20
minutes of recordings, and test data of its own. `combined-5` are 5 minutes that `innertune plan` chooses from the pool
without its transcripts by criterion=combined; `random-10` are 10 random minutes. All runs of a seed take the same
number of steps: half of the minutes are read in twice as many epochs. `random-10-twice` takes twice the steps.

Finished runs are not repeated. The table has the WER after adaptation, the difference from 5 and from 10 random
minutes, paired over seeds, with 95 % intervals (Student's t), and how many random minutes would give the same WER, by
the power law through the random runs.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table
from studies import format_mean, mean_interval, write_results

WAYS = (
    "random-5", "random-10", "combined-5", "coverage-5", "gradient-5", "disagreement-5", "random-2.5", "random-20",
    "confusion-5", "random-10-twice",
)  # fmt: skip
MINUTES, EPOCHS = 5.0, 12  # the steps of 12 epochs over 5 minutes
UTTERANCES = 660  # of the pool: 20 minutes
SECONDS = 32.0  # per run on one thread in 2026


def run(way: str, seed: int, folder: Path) -> dict[str, Any]:
    """Choose data, adapt, and evaluate. Returns the figures of the run."""
    from adapt import fine_tune, load_model
    from adapt.data.manifest import Splits
    from adapt.data.synthetic.accents import accents
    from adapt.planning.batch import random_batch
    from adapt.planning.choose import next_examples

    splits = accents(train=UTTERANCES, validation=60, test=200, source_test=0, seed=seed)
    base = load_model("us-english")
    name, minutes = way.split("-")[0], float(way.split("-")[1])
    started = time.process_time()
    if name == "random":
        numbers = random_batch([utterance.duration / 60 for utterance in splits.train], minutes, seed)
        train = [splits.train[number] for number in numbers]
    else:
        # The same measurements serve all criteria.
        batch = next_examples(base, splits.train, minutes=minutes, criterion=name, folder=folder / f"measured-{seed}")
        train = [candidate.example for candidate in batch.chosen]
    choosing = time.process_time() - started
    epochs = max(1, round(EPOCHS * MINUTES / minutes)) * (2 if way.endswith("twice") else 1)
    started = time.process_time()
    adapted = fine_tune(base, Splits(train=tuple(train), validation=splits.validation), epochs=epochs, seed=seed)
    wer = adapted.evaluate(splits.test).sets["target"]["wer"]
    words = [word for utterance in train for word in utterance.text.split()]
    return {
        "way": way, "seed": seed, "wer": wer, "epochs": epochs, "utterances": len(train), "words": len(words),
        "distinct_words": len(set(words)), "minutes": sum(utterance.duration for utterance in train) / 60,
        "seconds": time.process_time() - started, "choosing_seconds": choosing,
    }  # fmt: skip


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each way: means over seeds, and differences paired over seeds."""
    from adapt.planning.power_law import fit_power_law

    by_way = {way: {r["seed"]: r for r in results if r["way"] == way} for way in WAYS}
    random = [(r["minutes"], r["wer"]) for r in results if r["way"].startswith("random") and "twice" not in r["way"]]
    law = fit_power_law(*zip(*random, strict=True)) if len({round(size) for size, _ in random}) > 1 else None
    rows = []
    for way, own in by_way.items():
        if not own:
            continue
        row: dict[str, Any] = {"way": way, "seeds": len(own)}
        row["wer"] = mean_interval([100 * one["wer"] for one in own.values()])
        for other in ("random-5", "random-10"):
            pairs = [(one["wer"], by_way[other][seed]["wer"]) for seed, one in own.items() if seed in by_way[other]]
            row[f"minus {other}"] = mean_interval([100 * (a - b) for a, b in pairs]) if pairs else None
        row["worth"] = worth(law, statistics.fmean(one["wer"] for one in own.values()))
        for name in ("words", "distinct_words"):
            row[name] = round(statistics.fmean(one[name] for one in own.values()))
        rows.append(row)
    return rows


def worth(law: Any, wer: float) -> float | None:
    """Return how many random minutes give a WER by the law; None if no number does."""
    if law is None or wer <= law.floor or law.scale <= 0:
        return None
    return float((law.scale / (wer - law.floor)) ** (1 / law.exponent))


def extrapolations(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each seed, what the law fitted to 2.5, 5 and 10 minutes predicts for 20, and what 20 gave."""
    from adapt.planning.power_law import fit_power_law

    rows = []
    for seed in sorted({r["seed"] for r in results}):
        curve = {w: r for r in results if r["seed"] == seed and (w := r["way"]) in ("random-2.5", *WAYS[:2], WAYS[7])}
        if len(curve) == 4:
            whole = curve.pop("random-20")
            law = fit_power_law([r["minutes"] for r in curve.values()], [r["wer"] for r in curve.values()])
            rows.append({"seed": seed, "predicted": 100 * law(whole["minutes"]), "measured": 100 * whole["wer"]})
    return rows


def shown(row: dict[str, Any]) -> dict[str, str]:
    """Return the cells of a row as text."""
    cells = {"5 minutes unless named": row["way"], "WER %": format_mean(row["wer"])}
    for other in ("random-5", "random-10"):
        value = row[f"minus {other}"]
        cells[f"minus {other}"] = "" if value is None or row["way"] == other else format_mean(value)
    cells["random minutes of the same WER"] = "" if row["worth"] is None else f"{row['worth']:.1f}"
    return cells | {"words": str(row["words"]), "distinct": str(row["distinct_words"]), "seeds": str(row["seeds"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("outputs/study_plan"))
    parser.add_argument("--estimate", action="store_true", help="only print the estimated time")
    add_results_option(parser)
    args = parser.parse_args()
    paths = {
        (way, seed): args.folder / f"{way}-{seed}.json"
        for way in WAYS if way in args.ways for seed in range(args.seeds)
    }  # fmt: skip
    left = [key for key, path in paths.items() if not path.is_file()]
    print(f"{len(paths)} runs, {len(paths) - len(left)} finished; the others take about "
          f"{len(left) * SECONDS / 60:.0f} minutes of one core.", flush=True)  # fmt: skip
    if args.estimate:
        return
    from adapt.files import write_json

    args.folder.mkdir(parents=True, exist_ok=True)
    for way, seed in left:
        found = run(way, seed, args.folder)
        write_json(paths[way, seed], found)
        print(f"  {way}, seed {seed}: WER {100 * found['wer']:.1f}, {found['words']} words, "
              f"{found['seconds']:.0f} s", flush=True)  # fmt: skip
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(args.folder.glob("*-*.json"))]
    results = [found for found in results if "way" in found]
    rows = summary(results)
    write_results(args.folder / "result.json", rows, results)
    for row in rows:
        print({name: cell for name, cell in shown(row).items() if cell})
    found = extrapolations(results)
    for row in found:
        print(f"seed {row['seed']}: from 2.5, 5 and 10 minutes, the law predicts {row['predicted']:.1f} % for 20 "
              f"minutes; measured: {row['measured']:.1f} %")  # fmt: skip
    if found:
        error = math.sqrt(statistics.fmean((row["predicted"] - row["measured"]) ** 2 for row in found))
        print(f"Root mean square of the error: {error:.1f} points.")
    if args.results:
        write_table(args.results, __doc__ or "", [shown(row) for row in rows], f"{args.seeds} seeds")


if __name__ == "__main__":
    main()
