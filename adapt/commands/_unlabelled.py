"""`innertune adapt labels=none`: adapt without labels, and report what can be said."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, grouping
from adapt.commands._defaults import fill_in
from adapt.commands._finish import end_of_run, finish
from adapt.commands._training import decode_sets
from adapt.commands._unlabelled_options import config_of_rounds, forgetting, read_unlabelled
from adapt.comparison.compare import compare_hypotheses
from adapt.data.manifest import Splits
from adapt.data.splits import check_splits
from adapt.models.loaded import Loaded
from adapt.models.writing import choose_normaliser
from adapt.run import open_run
from adapt.training.adapted import Adapted
from adapt.training.prepare import Run
from adapt.unlabelled.adapt import adapt_without_labels
from adapt.unlabelled.options import WithoutLabels

log = logging.getLogger(__name__)


def adapt_unlabelled(cfg: DictConfig, base: Loaded, prepared: Callable[..., Run]) -> None:
    """Adapt as `conf/adapt.yaml` says with `labels=none`. `prepared` checks a training run on given data."""
    started = time.perf_counter()
    options: WithoutLabels = replace(build(cfg.unlabelled), blend=cfg.blend, **forgetting(cfg))
    splits = read_unlabelled(cfg)
    fill_in(cfg, base.model, len(splits.train))
    loader = build(cfg.loader)
    splits, skipped = check_splits(
        splits, base.model, cfg.data.on_error, loader.speeds, labelled=False, long_tests=True
    )
    tested = tuple(example for example in splits.test if example.text)
    sets = {name: part for name, part in (("target", tested), ("source", splits.source_test)) if part}
    written = (*tested, *splits.source_test, *splits.source_train, *splits.source_validation)  # what has texts
    base.model.task = replace(base.model.task, normaliser=choose_normaliser(base.model, written, cfg.normalise))
    folder = open_run(cfg)
    logger = build(cfg.logger)(folder)
    before = decode_sets(f"Base: {base.reference}. Before:", base.model, sets, loader, base.reference)
    cfg_of_rounds = config_of_rounds(cfg, options, splits)

    def train(model: Loaded, given: Splits, place: Path) -> Adapted:
        adapted = prepared(cfg_of_rounds, model, given).fit(place)
        assert adapted is not None  # there is only one process
        return adapted

    adapted, found = adapt_without_labels(base, splits, train, options, loader, folder)
    adapted.save(folder / "adaptation")
    after = decode_sets("After:", adapted.loaded.model, sets, loader)
    comparison = compare_hypotheses(
        base, adapted.loaded, sets, before, after, loader=loader, group_by=grouping(cfg.data), trained=adapted.trained,
        trained_rows=adapted.rows, trained_factors=adapted.factor_counts,
        causes=cfg.causes if sets else 0, compare_neurons=cfg.compare_neurons if sets else 0,
        audio_clips=cfg.audio_clips, non_speech=cfg.non_speech, title=cfg.title, history=adapted.history,
        skipped=skipped, config=OmegaConf.to_yaml(cfg, resolve=True), run=end_of_run(cfg, adapted.loaded.model, splits),
    )  # fmt: skip
    comparison = replace(comparison, unlabelled=found, seconds=time.perf_counter() - started)
    for note in found.notes:
        log.info("%s", note)
    finish(folder, cfg, comparison, adapted.loaded.model.header(), adapted.loaded.fingerprint, logger)
