"""Adapt a model to new data, and report what changed."""

import logging
import time
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, grouping
from adapt.checks import check_counts
from adapt.commands._auto import automatic
from adapt.commands._device import base_to_train
from adapt.commands._finish import end_of_run, finish
from adapt.commands._prepare import prepared
from adapt.commands._training import decode_sets
from adapt.commands._unlabelled import adapt_unlabelled
from adapt.commands._unlabelled_options import is_unlabelled
from adapt.comparison.compare import compare_hypotheses
from adapt.distributed import is_first
from adapt.errors import InputError
from adapt.models.loaded import Loaded
from adapt.run import check_flags, check_output, open_run
from adapt.training.dry_run import table

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Fine-tune as `conf/adapt.yaml` says. Writes an adaptation, metrics, a report and checkpoints."""
    import pytorch_lightning as pl

    started = time.perf_counter()
    check_flags(cfg)
    if not cfg.dry_run:
        check_output(cfg)
    names = ("causes", "compare_neurons", "audio_clips", "non_speech")
    check_counts(0, **{name: cfg[name] for name in names})
    pl.seed_everything(cfg.seed, verbose=False)
    base: Loaded = base_to_train(cfg)
    if base.reference == "new":
        raise InputError(
            "adapt needs a model to start from: model.pretrained=DIR, FILE or an embedded name. To train a model from "
            "random weights, use `innertune pretrain`."
        )
    if is_unlabelled(cfg):
        adapt_unlabelled(cfg, base, prepared)
        return
    chosen = automatic(cfg, base)
    run = prepared(cfg, base)
    if cfg.dry_run:
        table(run.dry_run()).show()
        return
    folder = open_run(cfg) if chosen is None else chosen.folder
    logger = build(cfg.logger)(folder)
    splits, base.model.task = run.splits, replace(base.model.task, normaliser=run.module.task.normaliser)
    sets = {name: part for name, part in (("target", splits.test), ("source", splits.source_test)) if part}
    title = f"Base: {base.reference}. Before:"
    before = decode_sets(title, base.model, sets, run.loader, base.reference) if is_first() else {}
    adapted = run.fit(folder, logger, started)
    if adapted is None:
        return
    trained = time.perf_counter()
    adapted.save(folder / "adaptation")
    if adapted.unblended is not None:
        adapted.unblended.save(folder / "unblended")
    after = decode_sets("After:", adapted.loaded.model, sets, run.loader)
    selection = adapted.selection_summary if chosen is None else chosen.text(adapted.selection_summary)
    comparison = compare_hypotheses(
        base, adapted.loaded, sets, before, after, loader=run.loader, group_by=grouping(cfg.data),
        trained=adapted.trained, trained_rows=adapted.rows, trained_factors=adapted.factor_counts, causes=cfg.causes,
        compare_neurons=cfg.compare_neurons, audio_clips=cfg.audio_clips, non_speech=cfg.non_speech,
        title=cfg.title, history=adapted.history,
        skipped=run.skipped, config=OmegaConf.to_yaml(cfg, resolve=True), selection=selection,
        run=end_of_run(cfg, adapted.loaded.model, splits, run.defaults), blend=adapted.front,
    )  # fmt: skip
    comparison = replace(comparison, seconds=adapted.seconds + time.perf_counter() - trained)
    finish(
        folder, cfg, comparison, {**adapted.loaded.model.header(), **adapted.grids}, adapted.loaded.fingerprint, logger,
        None if chosen is None else chosen.found.figures(),
    )  # fmt: skip
