#!/usr/bin/env python3
"""How much replay, on top of the blend with the base, keeps the source, and what it costs.

    scripts/study_replay.py                  # everything: about 15 minutes of one core for each seed
    scripts/study_replay.py --seeds 1

The embedded base, US English, is adapted to Scottish English (synthetic), with `blend=auto`. Each seed has data and a
training of its own. "share" is the share of an epoch's examples that are US English, "epochs" the number of epochs, and
"examples" how many target and US-English examples there are. Finished runs are not repeated.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table
from studies import format_mean, mean_interval

# Share, epochs, target examples, source examples.
SETTINGS = (
    (0.0, 10, 660, 0), (0.2, 10, 660, 200), (0.3, 10, 660, 200), (0.5, 10, 660, 200), (0.3, 8, 660, 200),
    (0.0, 10, 330, 0), (0.3, 10, 330, 200),
)  # fmt: skip


def run(share: float, epochs: int, target: int, source: int, seed: int) -> dict[str, Any]:
    """Adapt and evaluate. Returns word error rates in percent, of target and source, and CPU seconds."""
    from adapt import accents, fine_tune, load_model

    base = load_model("us-english")
    data = accents(train=target, source_train=source, seed=seed)
    started = time.process_time()
    adapted = fine_tune(base, data, replay=share, epochs=epochs, seed=seed, blend="auto")
    seconds = time.process_time() - started
    training = adapted.training
    assert training is not None
    unblended = adapted.model if training.unblended is None else training.unblended.loaded.model
    models = {"base": base.model, "unblended": unblended, "blended": adapted.model}
    rates = {name: _rates(model, (data.test, data.source_test)) for name, model in models.items()}
    return {"share": share, "epochs": epochs, "target": target, "source": source, "seed": seed, "cpu": seconds, **rates}


def _rates(model: Any, sets: Sequence[Sequence[Any]]) -> list[float]:
    from adapt.data.loader import Loader
    from adapt.models.inference import decode_examples

    return [
        100 * float(model.task.score(own, decode_examples(model, model.task, own, Loader())).values()["wer"])
        for own in map(list, sets)
    ]


def row(runs: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the cells of a setting. `plain` are the runs without replay on as many target examples."""
    full = {one["seed"]: one for one in plain}
    gain, loss = (
        [
            (one["blended"][place] - one["base"][place]) / (full[one["seed"]]["unblended"][place] - one["base"][place])
            for one in runs
        ]
        for place in (0, 1)
    )
    first = runs[0]
    return {
        "share": f"{first['share']:g}",
        "epochs": str(first["epochs"]),
        "examples": f"{first['target']} + {first['source']}",
        "target WER %": format_mean(mean_interval([one["blended"][0] for one in runs])),
        "source WER %": format_mean(mean_interval([one["blended"][1] for one in runs])),
        "share of full tuning's gain": f"{100 * statistics.fmean(gain):.0f} %",
        "share of its forgetting": f"{100 * statistics.fmean(loss):.0f} %",
        "CPU time": f"{statistics.fmean(one['cpu'] / full[one['seed']]['cpu'] for one in runs):.2f}",
        "seeds": str(len(runs)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("outputs/study_replay"))
    add_results_option(parser)
    args = parser.parse_args()
    from adapt.files import write_json

    args.folder.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {setting: [] for setting in SETTINGS}
    for setting in SETTINGS:
        for seed in range(args.seeds):
            path = args.folder / ("-".join(map(str, (*setting, seed))) + ".json")
            if not path.is_file():
                write_json(path, run(*setting, seed))
            found[setting].append(json.loads(path.read_text(encoding="utf-8")))
    rows = [row(runs, found[0.0, 10, target, 0]) for (_, _, target, _), runs in found.items()]
    for cells in rows:
        print(cells)
    if args.results:
        write_table(args.results, __doc__ or "", rows, f"{args.seeds} seeds")


if __name__ == "__main__":
    main()
