"""`innertune evaluate`: a model's error rates on test data, in all and by group, with intervals."""

import json
import logging
import time
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits, grouping
from adapt.comparison import by_group
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.files import write_text
from adapt.inference import answers
from adapt.run import check_output, close_run, command_line, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Evaluate as `conf/evaluate.yaml` says. Leaves `metrics.json`, `card.json` and `transcripts.jsonl`."""
    from rich.console import Console
    from rich.table import Table

    started = time.perf_counter()
    check_output(cfg)
    loaded = build(cfg.model)
    splits, skipped = check_splits(build_splits(cfg.data), loaded.model, cfg.data.on_error)
    sets = {name: part for name, part in (("target", splits.test), ("source", splits.source_test)) if part}
    if not sets:
        raise InputError("There is nothing to evaluate on: give data.test=test.jsonl.")
    keys = grouping(cfg.data)
    folder = open_run(cfg)
    loader = build(cfg.loader)

    table = Table(title=f"{loaded.reference}", title_justify="left")
    for column in ("", "utterances", "WER, %", "95 % interval", "CER, %"):
        table.add_column(column, justify="left" if not column else "right")
    metrics: dict[str, Any] = {}
    lines = []
    for name, utterances in sets.items():
        texts = answers(loaded.model, loaded.model.task, utterances, loader)
        rates = loaded.model.task.judge([u.text for u in utterances], texts)
        groups = {
            key: {value: rates[chosen].as_dict() for value, chosen in by_group(utterances, key).items()} for key in keys
        }
        metrics[name] = rates.as_dict() | {"groups": groups}
        table.add_row(f"[bold]{name}", *_cells(metrics[name]))
        for key, values in groups.items():
            for value, figures in values.items():
                table.add_row(f"  {key} {value}", *_cells(figures))
        table.add_section()
        lines += [
            {"set": name, "audio_filepath": str(u.audio_filepath), "text": u.text, "pred_text": text}
            for u, text in zip(utterances, texts, strict=True)
        ]
    write_text(folder / "transcripts.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    metrics |= {"seconds": time.perf_counter() - started, "skipped": skipped}
    card = {
        "model": {"reference": loaded.reference, "fingerprint": loaded.fingerprint},
        "command": command_line(),
        "data": OmegaConf.to_container(cfg.data, resolve=True),
    }
    close_run(folder, metrics, card)
    Console().print(table)
    log.info("Metrics and transcripts: %s", folder.absolute())


def _cells(figures: dict[str, Any]) -> list[str]:
    low, high = figures["wer_interval"]
    return [
        f"{figures['utterances']:,}",
        f"{100 * figures['wer']:.1f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{100 * figures['cer']:.1f}",
    ]
