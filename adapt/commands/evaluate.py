"""`innertune evaluate`: a model's quality on test data, in all and by group, with intervals."""

import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits, grouping
from adapt.comparison.results import by_group, signatures
from adapt.corrections.model_memory import corrected
from adapt.data.example import Example
from adapt.data.manifest import Splits
from adapt.data.pairs import Pair
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.evaluation.sweep import Point, measure
from adapt.files import write_text
from adapt.metrics import Metric
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.report.sweep import write_sweep
from adapt.run import check_output, close_run, command_line, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Evaluate as `conf/evaluate.yaml` says. Leaves `metrics.json`, `card.json` and `transcripts.jsonl`, and where
    there are interventions `sweep.html`.
    """
    started = time.perf_counter()
    check_output(cfg)
    loaded = build(cfg.model)
    splits, skipped = check_splits(build_splits(cfg.data), loaded.model, cfg.data.on_error)
    with corrected(loaded, str(cfg.corrections)):
        _evaluate(cfg, loaded, splits, skipped, started)


def _evaluate(cfg: DictConfig, loaded: Loaded, splits: Splits, skipped: Sequence[str], started: float) -> None:
    from rich.console import Console
    from rich.table import Table

    sets = {name: part for name, part in (("target", splits.test), ("source", splits.source_test)) if part}
    if not sets:
        raise InputError("There is nothing to evaluate on: give data.test=test.jsonl.")
    keys = grouping(cfg.data)
    loader = build(cfg.loader)
    trials = build(cfg.intervention)(loaded, splits, loader)
    folder = open_run(cfg)

    task = loaded.model.task
    table = Table(title=f"{loaded.reference}", title_justify="left")
    first, *others = [metric.title for metric in task.metrics]
    for column in ("", f"{task.example_name}s", first, "95 % interval", *others):
        table.add_column(column, justify="left" if not column else "right")
    metrics: dict[str, Any] = {}
    lines: list[dict[str, str]] = []
    points: list[Point] = []
    for name, examples in sets.items():
        texts = decode_examples(loaded.model, task, examples, loader)
        quality = task.evaluate([example.text for example in examples], texts)
        groups = {
            key: {value: quality[chosen].as_dict() for value, chosen in by_group(examples, key).items()} for key in keys
        }
        lacking = [key for key, values in groups.items() if list(values) == ["unknown"]]
        if lacking:
            log.info("%s: not grouped by %s, which no %s has.", name, " and ".join(lacking), task.example_name)
        groups = {key: values for key, values in groups.items() if key not in lacking}
        metrics[name] = quality.as_dict() | {"groups": groups}
        table.add_row(f"[bold]{name}", *_cells(metrics[name], task.metrics))
        for key, values in groups.items():
            for value, figures in values.items():
                table.add_row(f"  {key} {value}", *_cells(figures, task.metrics))
        lines += [{"set": name, **_read(e), "pred_text": text} for e, text in zip(examples, texts, strict=True)]
        for trial in trials:
            told = (name, trial.line, trial.value, trial.control)
            point, changed = measure(loaded.model, trial.interventions, examples, quality, loader, *told)
            points.append(point)
            table.add_row(f"  {trial.line}, {trial.value:g}", *_cells(dict(point.quality), task.metrics))
            said = {"set": name, "intervention": f"{trial.line}, {trial.value:g}"}
            lines += [said | _read(e) | {"pred_text": text} for e, text in zip(examples, changed, strict=True)]
        table.add_section()
    write_text(folder / "transcripts.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    if points:
        metrics["points"] = [point.as_dict() for point in points]
        along = "strength" if trials[0].line == "interventions" else "number of neurons"
        title, told = f"{loaded.reference} under interventions", _told(points, task.metrics[0])
        config = OmegaConf.to_yaml(cfg, resolve=True)
        write_sweep(folder / "sweep.html", points, task.metrics, task.example_name, title, told, along, config)
    metrics |= signatures(task.metrics) | {"seconds": time.perf_counter() - started, "skipped": skipped}
    card = {
        "model": {"reference": loaded.reference, "fingerprint": loaded.fingerprint},
        "command": command_line(),
        "data": OmegaConf.to_container(cfg.data, resolve=True),
    }
    close_run(folder, metrics, card)
    Console().print(table)
    for metric in task.metrics:
        if metric.signature:
            log.info("%s: %s", metric.label, metric.signature)
    log.info("Metrics and transcripts: %s", folder.absolute())


def _told(points: Sequence[Point], metric: Metric) -> str:
    # One set at a time: the best of both together would be that of the easier one.
    chart = points[0].chart
    own = [point for point in points if not point.control and point.chart == chart]
    sign = 1 if metric.higher else -1
    best = max(own, key=lambda point: sign * point.quality[metric.key])
    before, after = (metric.scale * values[metric.key] for values in (best.bare, best.quality))
    low, high = (metric.scale * end for end in best.difference[metric.key])
    unit = metric.unit
    said = (
        f"The bare model has {metric.label} {before:.1f}{unit} on the {chart}; the best of {len(own)} settings, "
        f"{best.line} at {best.value:g}, has {after:.1f}{unit} (difference {low:+.1f} to {high:+.1f}"
    )
    # That interval does not know that the setting was picked by the very examples that it is measured on.
    said += f", picked on the same {best.quality['examples']} examples)" if len(own) > 1 else ")"
    controls = [point for point in points if point.control and (point.chart, point.value) == (chart, best.value)]
    if controls:
        mean = metric.scale * sum(point.quality[metric.key] for point in controls) / len(controls)
        said += f"; its control has {mean:.1f}{unit}"
    return said + "."


def _read(example: Example) -> dict[str, str]:
    if isinstance(example, Pair):
        return {"source": example.source, "target": example.target}
    return {"audio_filepath": example.name, "text": example.text}


def _cells(figures: dict[str, Any], metrics: Sequence[Metric]) -> list[str]:
    values = [f"{metric.scale * figures[metric.key]:.1f}" for metric in metrics]
    low, high = (metrics[0].scale * end for end in figures[f"{metrics[0].key}_interval"])
    return [f"{figures['examples']:,}", values[0], f"{low:.1f} to {high:.1f}", *values[1:]]
