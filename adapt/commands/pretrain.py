"""`innertune pretrain`: train a model from scratch."""

import logging
import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits
from adapt.comparison.compare import tried
from adapt.comparison.grids import measure_smoothness
from adapt.comparison.results import signatures
from adapt.data.splits import check_splits
from adapt.distributed import is_first
from adapt.errors import InputError
from adapt.introspect.topography.cells import cells_to_text
from adapt.models.checkpoint import load_model, model_fingerprint, save_model
from adapt.models.inference import decode_examples
from adapt.report.logged import log_result
from adapt.run import check_output, close_run, command_line, open_run
from adapt.training.fit import fit, spent, watch
from adapt.training.module import AdaptationModule
from adapt.tuning.layers import full
from interventions.freeze import freeze_all_but

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Train as `conf/pretrain.yaml` says. Leaves `model.safetensors`, `metrics.json`, `card.json` and checkpoints."""
    import copy

    import pytorch_lightning as pl

    started = time.perf_counter()
    check_output(cfg)
    pl.seed_everything(cfg.seed, verbose=False)
    base = build(cfg.model)
    if base.reference != "new":
        raise InputError(
            "pretrain starts from nothing, got model.pretrained. To go on from a model use `innertune adapt`."
        )
    model = base.model
    splits, skipped = build_splits(cfg.data), []
    if is_first():  # the others are given what it found fit
        splits, skipped = check_splits(splits, model, cfg.data.on_error)
    if not splits.train:
        raise InputError("There is nothing to train on: give data.train=train.jsonl.")
    freeze_all_but(model, full(model))
    model.set_augment(build(cfg.augment))
    topographic = build(cfg.topographic)(model)
    untrained = None if topographic is None else copy.deepcopy(model)
    module = AdaptationModule(
        model, model.task, build(cfg.optimizer), cfg.schedule, cfg.warmup, cfg.seed, topographic=topographic
    )
    watch(model.task.metrics, cfg.monitor, cfg.patience)
    loader, make_trainer = build(cfg.loader), build(cfg.trainer)
    folder = open_run(cfg)
    logger = build(cfg.logger)(folder)
    if topographic is not None:
        topographic.prepare(folder / "checkpoints")
    weights = sum(p.numel() for p in model.parameters())
    log.info("Training %s weights on %d %ss.", f"{weights:,}", len(splits.train), model.task.example_name)
    earlier = spent(folder / "checkpoints")
    history = fit(
        module, splits, loader, make_trainer, folder / "checkpoints", cfg.monitor, cfg.patience, logger, started=started
    )
    if not is_first():
        return
    facts = {"seed": cfg.seed, "training": OmegaConf.to_container(cfg.data, resolve=True)}
    if topographic is not None:
        facts["topographic"] = cells_to_text(topographic.cells)
    save_model(folder / "model.safetensors", model, cfg.half, **facts)
    # What is measured is what was saved, rounding included.
    saved = load_model(str(folder)).model
    metrics: dict[str, object] = {
        "weights": {"total": weights},
        "history": history,
        "skipped": skipped,
    }
    for name, examples in (("target", splits.test), ("source", splits.source_test)):
        if examples:
            texts = decode_examples(saved, saved.task, examples, loader)
            quality = saved.task.evaluate([example.text for example in examples], texts)
            metrics[name] = {"after": quality.as_dict()}
            log.info("%s test: %s (%d %ss)", name, quality, len(quality), saved.task.example_name)
    measured = splits.test or splits.validation
    if topographic is not None and measured:
        order = tried("order", measure_smoothness, untrained, saved, topographic.cells, measured, loader)
        metrics |= {"topographic": order.as_dict()} if order is not None else {}
    metrics |= signatures(saved.task.metrics)
    metrics["seconds"] = earlier + time.perf_counter() - started
    card = {
        "model": saved.header(),
        "fingerprint": model_fingerprint(saved),
        "command": command_line(),
        **facts,
        "results": {name: metrics[name] for name in ("target", "source", "topographic") if name in metrics},
    }
    close_run(folder, metrics, card)
    log_result(logger, folder, OmegaConf.to_container(cfg, resolve=True), metrics)
    log.info("The model lies in %s", Path(folder) / "model.safetensors")
