"""The options and the data of `innertune adapt labels=none`."""

import logging
from inspect import signature

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, grouping
from adapt.checks import check_choice
from adapt.commands._device import trainer_of
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.training.trainer import bare_trainer
from adapt.unlabelled.fine_tune import REPLAY
from adapt.unlabelled.options import WithoutLabels, without_labels

log = logging.getLogger(__name__)
_OPTIONAL = (".read_splits", ".read_pairs")  # readers of data that may lack labels; the others always have them


def is_unlabelled(cfg: DictConfig) -> bool:
    """Return whether a run adapts without labels, after checking its options. Raises InputError."""
    check_choice("labels", cfg.labels, ("given", "none"))
    if cfg.labels == "none":
        _check(cfg)
        return True
    defaults = {name: one.default for name, one in signature(without_labels).parameters.items()}
    changed = next((name for name, value in defaults.items() if cfg.unlabelled.get(name) != value), None)
    if changed is not None:
        raise InputError(f"unlabelled.{changed} is for an adaptation without labels. Add labels=none, or leave it out.")
    return False


def forgetting(cfg: DictConfig) -> dict[str, float | str]:
    """Return the option `forget`, if the user gave one; otherwise the default is kept."""
    return {} if cfg.forget is None else {"forget": cfg.forget}


def read_unlabelled(cfg: DictConfig) -> Splits:
    """Read the data of a run without labels. Raises InputError."""
    grouping(cfg.data)
    own = {key: value for key, value in cfg.data.items() if key not in ("on_error", "check", "group_by")}
    free = {"labelled": False} if str(cfg.data.get("_target_")).endswith(_OPTIONAL) else {}
    splits: Splits = build(OmegaConf.create(own), "data", **free)
    if not splits.train:
        raise InputError("labels=none needs recordings or sentences to adapt to: data.train=...")
    return splits


def _check(cfg: DictConfig) -> None:
    for name, default in {"dry_run": False, "alphabet": "keep", "monitor": None, "patience": None}.items():
        if cfg[name] != default:
            raise InputError(f"{name} has no effect with labels=none, which has no labels to check by. Leave it out.")
    if bare_trainer(trainer_of(cfg)).world_size > 1:
        raise InputError("labels=none trains in one process: set trainer.devices=1.")


def config_of_rounds(cfg: DictConfig, options: WithoutLabels, splits: Splits) -> DictConfig:
    """Return the config of one round of training."""
    own = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(own, DictConfig)
    own.trainer.max_epochs = max(1, round(cfg.trainer.max_epochs / max(options.rounds, 1)))
    own.blend, own.forget = "off", None  # only the result of all rounds is blended
    own.data.on_error = "skip"  # a pseudo-label that does not fit its recording is no mistake of the user
    if splits.source_train and cfg.replay is None:
        log.info("replay=%s: the rounds also train on the source.", REPLAY)
        own.replay = REPLAY
    return own
