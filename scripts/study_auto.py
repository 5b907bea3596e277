#!/usr/bin/env python3
"""Does tuning=auto find what a grid finds? Compare it with the best of a grid of options, and with the defaults.

    scripts/study_auto.py --data accents                 # 40 runs and tuning=auto; about an hour on 2 cores
    scripts/study_auto.py --data accents --grid 6 --options data.train=120 data.validation=20 trainer.max_epochs=3
    scripts/study_auto.py --data MODEL TRAIN VALIDATION TEST SOURCE_TEST

Each run is an `innertune adapt` in its own folder below `--folder`; finished runs are not repeated. The grid: full
tuning, LoRA, the first third of the layers, and a fifth of the neurons; at the family's rate, 3 and 10 times as much, a
third and a tenth; blended with the base by 1 and 0.8. `best` is the grid's best run on the test data, which nobody
could choose; `grid by validation` is the one that the validation data choose. The cost is `seconds`, all in all.
The error that counts is the WER on the target plus the rise of the WER on the source.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table
from studies import drop_checkpoints, innertune, report_failure

SHORT = ("causes=0", "compare_neurons=0", "audio_clips=0")
TUNINGS = {
    "full": ("weights", []),
    "lora": ("factors", []),
    "layers": ("weights", ["tuning.layers=first 3"]),
    "neurons": ("rows", ["tuning.choose=random", "tuning.per_site=true", "tuning.top=0.2"]),
}
RATES = (1.0, 3.0, 1 / 3, 10.0, 0.1)
BLENDS = (1.0, 0.8)


def main() -> None:
    """Run the grid and the search, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["accents"], help="accents, or a model and four manifests")
    parser.add_argument("--grid", type=int, default=40, help="number of runs of the grid, in its order (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of all runs (default: 0)")
    parser.add_argument("--options", nargs="*", default=[], help="further options of `innertune adapt` for all runs")
    parser.add_argument("--folder", type=Path, default=Path("outputs/study_auto"), help="where runs are kept")
    add_results_option(parser)
    arguments = parser.parse_args()
    shared = [*SHORT, f"seed={arguments.seed}", *of_data(arguments.data), *arguments.options]
    runs = (
        {"defaults": ["blend=off"]}
        | dict(list(grid(arguments.data).items())[: arguments.grid])
        | {"auto": ["tuning=auto"]}
    )
    found = {}
    for name, options in runs.items():
        result = run(arguments.folder / name.replace(" ", "_"), [*options, *shared])
        if result is None:
            report_failure(name, arguments.folder / f"{name.replace(' ', '_')}.log")
        else:
            found[name] = result
            print(name, {key: round(value, 2) for key, value in result.items()}, flush=True)
    rows = table(found)
    for row in rows:
        print(row)
    if arguments.results is not None:
        write_table(arguments.results, __doc__ or "", rows, f"seed {arguments.seed}")


def of_data(data: list[str]) -> list[str]:
    """Return the options that name the model and the data."""
    if data == ["accents"]:
        return []
    names = ("model.pretrained", "data.train", "data.validation", "data.test", "data.source_test")
    if len(data) != len(names):
        raise SystemExit("--data: give accents, or MODEL TRAIN VALIDATION TEST SOURCE_TEST.")
    return [f"{name}={value}" for name, value in zip(names, data, strict=True)]


def grid(data: list[str]) -> dict[str, list[str]]:
    """Return the options of the grid's runs by name, those that are likeliest to be good first."""
    from adapt.models.checkpoint import load_model

    model = load_model("us-english" if data == ["accents"] else data[0]).model
    size = sum(parameter.numel() for parameter in model.parameters())
    runs = {}
    for factor, blend, (tuning, (kind, options)) in product(RATES, BLENDS, TUNINGS.items()):
        rate = model.recipe.learning_rate(kind, size) * factor  # pyright: ignore[reportArgumentType]
        runs[f"{tuning} {rate:.1e} blend {blend:g}"] = [
            f"tuning={tuning}", *options, f"optimizer.lr={rate:.3e}", f"blend={'off' if blend == 1 else blend}",
        ]  # fmt: skip
    return runs


def run(folder: Path, options: list[str]) -> dict[str, float] | None:
    """Run `innertune adapt` unless it is finished, and return its WERs and seconds; None if it failed."""
    metrics = folder / "metrics.json"
    if not metrics.exists():
        log = folder.with_suffix(".log")
        if innertune("adapt", *options, f"output={folder}", "resume=true", log=log) or not metrics.exists():
            return None
        drop_checkpoints(folder)
    values: dict[str, Any] = json.loads(metrics.read_text(encoding="utf-8"))
    found = {"target": 100 * values["target"]["after"]["wer"], "seconds": values["seconds"]}
    source = values.get("source")
    rise = 0.0 if source is None else 100 * max(0.0, source["after"]["wer"] - source["before"]["wer"])
    validation = min((row["val_wer"] for row in values["history"] if "val_wer" in row), default=float("nan"))
    return found | {"rise": rise, "error": found["target"] + rise, "validation": 100 * validation}


def table(found: dict[str, dict[str, float]]) -> list[dict[str, str]]:
    """Return a row for the defaults, for tuning=auto, and for the grid's best run by test and by validation data."""
    tried = {name: own for name, own in found.items() if name not in ("defaults", "auto")}
    cost = sum(own["seconds"] for own in tried.values())
    rows = {name: (name, own, own["seconds"]) for name, own in found.items() if name in ("defaults", "auto")}
    if tried:
        for title, key in (("best of the grid", "error"), ("grid by validation", "validation")):
            name = min(tried, key=lambda one: tried[one][key])
            rows[title] = (name, tried[name], cost)
    return [
        {
            "": title if title == name else f"{title} ({len(tried)} runs): {name}",
            "WER target": f"{own['target']:.1f}", "rise of WER source": f"{own['rise']:.1f}",
            "both": f"{own['error']:.1f}", "minutes": f"{seconds / 60:.1f}",
        }
        for title, (name, own, seconds) in rows.items()
    ]  # fmt: skip


if __name__ == "__main__":
    main()
