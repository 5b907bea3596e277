"""Measure what a model's neurons respond to, by profiles, probes, similarity, bias and more."""

import logging
import time
from functools import partial
from inspect import signature

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits
from adapt.data.splits import check_splits
from adapt.introspect.measured import Measured
from adapt.models.loaded import Loaded
from adapt.run import check_output, close_run, command_line, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Measure as `conf/introspect.yaml` says. Leaves `metrics.json`, `card.json`, and what the measure writes."""
    started = time.perf_counter()
    check_output(cfg)
    loaded: Loaded = build(cfg.model)
    measure, skipped = build(cfg.measure), []
    if "splits" in signature(measure).parameters:
        splits, skipped = check_splits(build_splits(cfg.data), loaded.model, cfg.data.on_error)
        measure = partial(measure, splits=splits, loader=build(cfg.loader))
    measured: Measured = measure(loaded)
    folder = open_run(cfg)
    card = {
        "model": {"reference": loaded.reference, "fingerprint": loaded.fingerprint},
        "command": command_line(),
        "data": OmegaConf.to_container(cfg.data, resolve=True),
    }
    title = cfg.title or f"What the neurons of {loaded.reference} do"
    files = measured.write(folder, str(title), OmegaConf.to_yaml(cfg, resolve=True), card)
    metrics = {**measured.summary, "seconds": time.perf_counter() - started, "skipped": skipped}
    close_run(folder, metrics, card)
    if cfg.get("logger") is not None:
        from adapt.report.logged import log_measured  # loads Lightning, for which no measure waits that is not logged

        log_measured(build(cfg.logger)(folder), folder, OmegaConf.to_container(cfg, resolve=True), metrics, files)
    log.info("%s", measured.told)
    log.info("The page: %s", files[0].absolute())
