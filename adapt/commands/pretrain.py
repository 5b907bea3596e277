"""Train a model from random weights."""

import logging
import time
from dataclasses import asdict, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits
from adapt.commands._defaults import fill_in, fill_in_rate
from adapt.commands._device import base_to_train, trainer_of
from adapt.commands._finish import end_of_run
from adapt.commands._training import interrupted
from adapt.comparison.compare import measure_or_warn
from adapt.comparison.grids import measure_smoothness
from adapt.comparison.results import signatures
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.devices import beside
from adapt.models.loaded import Loaded
from adapt.models.state import model_fingerprint
from adapt.report.logged import log_result
from adapt.run import check_flags, check_output, close_run, discard_checkpoints, open_run
from adapt.training.prepare import Run, prepare
from adapt.transcription.any_length import decode_any_length

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Train as `conf/pretrain.yaml` says. Writes `model.safetensors`, `metrics.json`, `card.json` and checkpoints."""
    import pytorch_lightning as pl

    started = time.perf_counter()
    check_flags(cfg)
    check_output(cfg)
    pl.seed_everything(cfg.seed, verbose=False)
    base: Loaded = base_to_train(cfg)
    if base.reference != "new":
        raise InputError("pretrain starts from random weights. To train a model further, use `innertune adapt`.")
    splits = build_splits(cfg.data)
    filled = fill_in(cfg, base.model, len(splits.train), scratch=True)
    run = prepare(
        base, splits, loader=build(cfg.loader), trainer=trainer_of(cfg), optimizer=build(cfg.optimizer),
        augment=build(cfg.augment), topographic=build(cfg.topographic), checkpoint_every=cfg.checkpoint_every,
        schedule=cfg.schedule, warmup=cfg.warmup, monitor=cfg.monitor, patience=cfg.patience, seed=cfg.seed,
        on_error=cfg.data.on_error, check=cfg.data.check, normalise=cfg.normalise, resume_from=interrupted(cfg),
    )  # fmt: skip
    run = replace(run, defaults=fill_in_rate(cfg, run, filled))
    folder = open_run(cfg)
    logger = build(cfg.logger)(folder)
    trained = run.fit(folder, logger, started)
    if trained is None:
        return
    evaluating = time.perf_counter()
    facts = {"seed": cfg.seed, "training": OmegaConf.to_container(cfg.data, resolve=True), **trained.grids}
    trained.save_model(folder / "model.safetensors", cfg.save_half, **facts)
    saved = beside(load_model(str(folder)), base.model).model  # as saved, with any rounding of weights
    metrics = evaluated(run, saved) | {"history": trained.history, "skipped": run.skipped}
    metrics["seconds"] = trained.seconds + time.perf_counter() - evaluating
    card = {
        "model": saved.header(),
        "fingerprint": model_fingerprint(saved),
        **facts,
        **asdict(end_of_run(cfg, saved, run.splits, run.defaults)),
        "results": {name: metrics[name] for name in ("target", "source", "topographic") if name in metrics},
    }
    close_run(folder, metrics, card)
    discard_checkpoints(folder, cfg.keep_checkpoints)
    log_result(logger, folder, OmegaConf.to_container(cfg, resolve=True), metrics)


def evaluated(run: Run, model: Any) -> dict[str, Any]:
    """Evaluate a trained model on the test sets, and measure how well its grids are ordered."""
    splits, model.task = run.splits, replace(model.task, normaliser=run.module.task.normaliser)
    metrics: dict[str, Any] = {"weights": {"total": sum(p.numel() for p in run.unmodified.parameters())}}
    for name, examples in (("target", splits.test), ("source", splits.source_test)):
        if examples:
            hypotheses = decode_any_length(model, model.task, examples, run.loader)
            scores = model.task.score(examples, hypotheses)
            metrics[name] = {"after": scores.as_dict()}
            log.info("%s test: %s (%d %ss)", name, scores, len(scores), model.task.example_name)
    if run.topographic is not None and (measured := splits.test or splits.validation):
        cells = run.topographic.cells
        smoothness = measure_or_warn(
            "topographic smoothness", measure_smoothness, run.unmodified, model, cells, measured, run.loader
        )
        metrics |= {"topographic": smoothness.as_dict()} if smoothness is not None else {}
    return metrics | signatures(model.task.metrics)
