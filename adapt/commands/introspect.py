"""Measure what a model's neurons respond to, by profiles, probes, similarity, bias and more."""

import logging
import time
from functools import partial
from inspect import signature
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from adapt.build import build, build_splits
from adapt.commands._device import loaded_model
from adapt.data.splits import check_splits
from adapt.introspect.result import MeasureResult
from adapt.models.loaded import Loaded
from adapt.run import check_output, close_run, command_line, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Run a measure as configured. Writes its result, its page, `metrics.json` and `card.json`."""
    started = time.perf_counter()
    check_output(cfg)
    loaded: Loaded = loaded_model(cfg)
    name, options, page = _measure_and_page(cfg.measure)
    measure, skipped = build(options), []
    if "splits" in signature(measure).parameters:
        splits, skipped = check_splits(build_splits(cfg.data), loaded.model, cfg.data.on_error)
        measure = partial(measure, splits=splits, loader=build(cfg.loader))
    result: MeasureResult = measure(loaded)

    folder = open_run(cfg)
    card = {
        "model": {"reference": loaded.reference, "fingerprint": loaded.fingerprint},
        "command": command_line(),
        "data": OmegaConf.to_container(cfg.data, resolve=True),
    }
    files = result.save(folder, card)
    if page is not None:
        path = folder / f"{name}.html"
        title = cfg.title or f"What the neurons of {loaded.reference} do"
        build(page)(path, result, str(title), OmegaConf.to_yaml(cfg, resolve=True))
        files.insert(0, path)
    metrics = {**result.figures, "seconds": time.perf_counter() - started, "skipped": skipped}
    close_run(folder, metrics, card)
    if cfg.get("logger") is not None:
        from adapt.report.logged import log_measure  # imports Lightning, which takes seconds

        log_measure(build(cfg.logger)(folder), folder, OmegaConf.to_container(cfg, resolve=True), metrics, files)
    log.info("%s", result.summary)
    log.info("Result: %s", files[0].absolute())


def _measure_and_page(node: DictConfig) -> tuple[str, DictConfig, Any]:
    """Return the measure's name, its config node without `page`, and the node of the page (None without a page)."""
    options = node.copy()  # keeps its parent, which interpolations and error messages need
    with open_dict(options):
        page = options.pop("page", None)
    return str(node._target_).rpartition(".")[2], options, page
