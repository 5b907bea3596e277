"""The end of a run that compares two models: its files, its log, its table."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.comparison.results import Comparison
from adapt.files import write_json
from adapt.models.loaded import Loaded
from adapt.report.logged import log_result
from adapt.report.page import write_report
from adapt.report.table import print_result
from adapt.run import close_run, command_line


def finish(folder: Path, cfg: DictConfig, comparison: Comparison, adapted: Loaded, logger: Any) -> None:
    """Write report, comparison, card and metrics, log them, and print the table."""
    write_json(folder / "comparison.json", comparison.as_dict())
    write_report(comparison, folder / "report.html")
    metrics = comparison.figures()
    card = {
        "model": dict(adapted.header),
        "fingerprint": adapted.fingerprint,
        "base": {"reference": comparison.before_name},
        "command": command_line(),
        "data": OmegaConf.to_container(cfg.data, resolve=True),
        "seed": cfg.seed,
        **({"choice": comparison.choice} if comparison.choice else {}),
        "results": {name: metrics[name] for name in (*comparison.sets, "topographic") if name in metrics},
    }
    close_run(folder, metrics, card)
    log_result(logger, folder, OmegaConf.to_container(cfg, resolve=True), metrics, comparison)
    print_result(comparison, folder)
