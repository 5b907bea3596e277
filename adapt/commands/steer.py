"""Fit a steering vector between two groups of examples and evaluate it on both."""

import logging
import time

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits
from adapt.commands._device import loaded_model
from adapt.commands._options import model_card, plain
from adapt.data.splits import check_splits
from adapt.evaluation.steering import plan_steering, steer
from adapt.models.loaded import Loaded
from adapt.report.sweep import write_sweep
from adapt.run import check_output, close_run, command_line, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Steer as `conf/steer.yaml` says.

    Writes `vectors.safetensors`, `steering.safetensors` (the best setting), `steering.html`, `metrics.json` and
    `card.json`.
    """
    started = time.perf_counter()
    check_output(cfg)
    options = plain(cfg, "group_by", "groups", "sites", "part", "method", "coefficients", "controls")
    loaded: Loaded = loaded_model(cfg)
    splits, skipped = check_splits(build_splits(cfg.data), loaded.model, cfg.data.on_error)
    plan_steering(loaded.model, splits, **options)
    folder = open_run(cfg)
    result = steer(loaded, splits, **options, unit_length=cfg.unit_length, loader=build(cfg.loader))
    result.save_vectors(folder, command=command_line())
    write_sweep(
        folder / "steering.html", result.points, result.metrics, result.example_name, str(cfg.title), result.summary(),
        "coefficient", OmegaConf.to_yaml(cfg, resolve=True),
    )  # fmt: skip
    metrics = result.figures() | {"seconds": time.perf_counter() - started, "skipped": skipped}
    close_run(folder, metrics, model_card(cfg, loaded) | dict(result.provenance))
    log.info("%s", result.summary())
    log.info("Vectors, curves and metrics: %s", folder.absolute())
