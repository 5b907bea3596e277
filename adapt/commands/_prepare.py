"""Build what `innertune adapt` trains, from its options."""

from dataclasses import replace

from omegaconf import DictConfig

from adapt.build import build, build_splits
from adapt.commands._defaults import fill_in, fill_in_rate
from adapt.commands._device import trainer_of
from adapt.commands._training import interrupted
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.models.loaded import Loaded
from adapt.training.prepare import Run, prepare


def prepared(cfg: DictConfig, base: Loaded, given: Splits | None = None) -> Run:
    """Build what the config names, and check it. `given` replaces its data. Raises InputError."""
    splits = build_splits(cfg.data) if given is None else given
    if given is None and (not splits.train or not splits.test):
        first = f" The first problem: {splits.problems[0]}" if splits.problems else ""
        raise InputError("adapt needs examples to train on and to test on: data.train=... and data.test=..." + first)
    filled = fill_in(cfg, base.model, len(splits.train))
    run = prepare(
        base, splits, build(cfg.tuning), loader=build(cfg.loader), trainer=trainer_of(cfg),
        optimizer=build(cfg.optimizer), cache=build(cfg.cache), augment=build(cfg.augment), penalty=build(cfg.penalty),
        topographic=build(cfg.topographic), schedule=cfg.schedule, warmup=cfg.warmup, layer_decay=cfg.layer_decay,
        rates=cfg.rates, unfreeze=cfg.unfreeze, replay=cfg.replay, alphabet=cfg.alphabet, monitor=cfg.monitor,
        patience=cfg.patience, blend=cfg.blend, forget=cfg.forget, seed=cfg.seed, on_error=cfg.data.on_error,
        check=cfg.data.check, checkpoint_every=cfg.checkpoint_every,
        timestamps=cfg.timestamps, normalise=cfg.normalise, written_like=cfg.written_like, resume_from=interrupted(cfg),
    )  # fmt: skip
    return replace(run, defaults=fill_in_rate(cfg, run, filled))
