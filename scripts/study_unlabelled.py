#!/usr/bin/env python
"""Adaptation without labels: each step alone, all of them, and what naive and random pseudo-labels do.

    scripts/study_unlabelled.py --results docs/results/unlabelled.json

Target and source are synthetic accents. The source data have other sentences than the target's. Every result is kept in
`--work`, from which an interrupted study goes on. Each model that was tried is also measured with the labels, so that
the label-free criterion can be compared with the errors.
"""

import argparse
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

WAYS = ("base", "test time", "statistics", "entropy", "naive round", "random labels", "rounds", "rounds, source")


def rates(model: Any, splits: Any) -> dict[str, float]:
    """Return the WER on target and source, in per cent."""
    from adapt.data.loader import Loader
    from adapt.models.inference import decode_examples

    found = {}
    for name, examples in (("target", splits.test), ("source", splits.source_test)):
        texts = decode_examples(model, model.task, examples, Loader())
        found[name] = 100 * model.task.score(examples, texts).values()["wer"]
    return found


def naive(base: Any, splits: Any, epochs: int, seed: int, shuffled: bool) -> Any:
    """Return a model that was trained once on all texts that the base reads; `shuffled` gives each to another."""
    from adapt.data.kinds import with_text
    from adapt.data.loader import Loader
    from adapt.models.inference import decode_examples
    from adapt.training.fine_tune import fine_tune

    texts = decode_examples(base.model, base.model.task, splits.train, Loader())
    if shuffled:
        random.Random(seed).shuffle(texts)
    train = tuple(with_text(one, text) for one, text in zip(splits.train, texts, strict=True) if text.strip())
    given = replace(splits, train=train, validation=(), source_train=())
    return fine_tune(base, given, epochs=epochs, learning_rate=5e-4, seed=seed, on_error="skip").loaded.model


def run(way: str, base: Any, splits: Any, source: Any, epochs: int, seed: int) -> dict[str, Any]:
    """Return the error rates of one way, and what was tried."""
    from adapt.unlabelled.entropy import adapting
    from adapt.unlabelled.fine_tune import fine_tune_without_labels
    from adapt.unlabelled.options import WithoutLabels

    started, tried = time.process_time(), []

    def observe(model: Any, trial: Any) -> None:
        tried.append({"name": trial.name, "agreement": trial.agreement, "confidence": trial.confidence,
                      "verdict": trial.verdict, **rates(model, splits)})  # fmt: skip

    if way == "base":
        found = rates(base.model, splits)
    elif way == "test time":
        with adapting(base.model, "utterance"):
            found = rates(base.model, splits)
    elif way in ("naive round", "random labels"):
        found = rates(naive(base, splits, epochs // 2, seed, way == "random labels"), splits)
    else:
        rounds = 2 if way.startswith("rounds") else 0
        with_source = way == "rounds, source"
        how = WithoutLabels(
            norms=way != "entropy", entropy=way != "statistics", rounds=rounds, test_time=not with_source
        )
        data = replace(splits, source_train=source if with_source else ())
        adapted, result = fine_tune_without_labels(
            base, data, how=how, epochs=epochs, learning_rate=5e-4, seed=seed, observe=observe
        )
        found = {**rates(adapted.loaded.model, splits), "chosen": result.chosen}
    return {"way": way, "seed": seed, **found, "cpu s": round(time.process_time() - started), "tried": tried}


def correlation(results: list[dict[str, Any]]) -> tuple[float, int]:
    """Return Spearman's correlation of agreement and WER over all models that were tried, within each run."""
    from scipy.stats import rankdata, spearmanr

    agreements: list[float] = []
    errors: list[float] = []
    for result in results:
        if len(result["tried"]) > 2:
            agreements += list(rankdata([one["agreement"] for one in result["tried"]]) / len(result["tried"]))
            errors += list(rankdata([one["target"] for one in result["tried"]]) / len(result["tried"]))
    return (float(spearmanr(agreements, errors).statistic), len(errors)) if len(errors) > 2 else (float("nan"), 0)


def main() -> None:
    from result_table import add_results_option, write_table
    from studies import by, format_mean, mean_interval

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="en-gb-scotland", help="accent to adapt to (default: en-gb-scotland)")
    parser.add_argument("--train", type=int, default=660, help="utterances of the target (default: 660)")
    parser.add_argument("--test", type=int, default=200, help="test utterances of each accent (default: 200)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of two rounds together (default: 6)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="what to measure (default: all)")
    parser.add_argument("--work", type=Path, default=Path("outputs/study_unlabelled"), help="where results are kept")
    add_results_option(parser)
    given = parser.parse_args()
    from adapt import accents, load_model
    from adapt.files import is_file, read_json, write_json

    results: list[dict[str, Any]] = []
    for seed in given.seeds:
        base = load_model("us-english")
        splits = accents(target=given.target, train=given.train, test=given.test, source_test=given.test, seed=seed)
        others = accents(train=0, validation=0, test=0, source_test=0, source_train=given.train, seed=seed + 1000)
        for way in given.ways:
            short = way.replace(", ", "-").replace(" ", "-")
            name = f"{given.target}-{given.train}-{given.test}-{given.epochs}-{short}-{seed}.json"
            if not is_file(given.work / name):
                write_json(given.work / name, run(way, base, splits, others.source_train, given.epochs, seed))
            results.append(read_json(given.work / name))
            print({key: value for key, value in results[-1].items() if key != "tried"}, flush=True)
    rows = [
        {
            "way": group[0]["way"],
            "target WER, %": format_mean(mean_interval([one["target"] for one in group])),
            "source WER, %": format_mean(mean_interval([one["source"] for one in group])),
            "result": ", ".join(dict.fromkeys(one.get("chosen", "") for one in group)),
            "CPU s": format_mean(mean_interval([one["cpu s"] for one in group])),
            "seeds": len(group),
        }
        for group in by(lambda result: result["way"], results)
    ]
    for row in rows:
        print(row)
    value, count = correlation(results)
    print(f"Spearman's correlation of agreement and WER, within runs: {value:.2f} over {count} models")
    if given.results is not None:
        write_table(given.results, "Adaptation without labels", rows, " ".join(map(str, given.seeds)))


if __name__ == "__main__":
    main()
