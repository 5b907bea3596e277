"""The end of a command that compares two models: its files, its log, its table."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.comparison.facts import RunFacts, run_facts
from adapt.comparison.results import Comparison
from adapt.data.manifest import Splits
from adapt.models.model import Model
from adapt.report.logged import log_result
from adapt.report.page import write_report
from adapt.report.table import print_result
from adapt.run import close_run, command_line, discard_checkpoints


def end_of_run(cfg: DictConfig, model: Model, splits: Splits, defaults: Any = "") -> RunFacts:
    """Return the facts about a run of a command that is ending now."""
    parts = {"train": splits.train, "validation": splits.validation, "target": splits.test}
    parts |= {"source": splits.source_test, "source_train": splits.source_train}
    rate = cfg.optimizer.get("lr") if "optimizer" in cfg else None
    return run_facts(model, parts, command_line(), cfg.seed, rate, str(defaults))


def finish(
    folder: Path, cfg: DictConfig, comparison: Comparison, model: Mapping[str, Any], fingerprint: str, logger: Any,
    search: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write the report, the comparison, the card and the metrics, log them, and print the table.

    `search` is what `tuning=auto` tried and chose; None for other tunings.
    """
    comparison.save(folder / "comparison.json")
    write_report(folder / "report.html", comparison)
    metrics = comparison.figures() | ({} if search is None else {"search": dict(search)})
    card = {
        "model": dict(model),
        "fingerprint": fingerprint,
        "base": {"reference": comparison.before_name},
        "title": comparison.title,
        "data": OmegaConf.to_container(cfg.data, resolve=True),
        **({} if comparison.run is None else asdict(comparison.run)),
        **({"selection": comparison.selection} if comparison.selection else {}),
        "results": {name: metrics[name] for name in (*comparison.sets, "topographic") if name in metrics},
    }
    close_run(folder, metrics, card)
    discard_checkpoints(folder, cfg.get("keep_checkpoints", True))
    log_result(logger, folder, OmegaConf.to_container(cfg, resolve=True), metrics, comparison)
    print_result(comparison, folder)
