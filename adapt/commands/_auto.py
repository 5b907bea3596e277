"""`tuning=auto` on the command line: find the options before training, and fill them in."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits
from adapt.commands._defaults import fill_in
from adapt.commands._device import trainer_of
from adapt.errors import InputError
from adapt.files import write_json
from adapt.models.loaded import Loaded
from adapt.run import open_run
from adapt.training.auto import Auto, Found, candidates, search

log = logging.getLogger(__name__)
_OF_ALL_TRIALS = ("schedule", "warmup", "layer_decay", "rates", "unfreeze", "timestamps", "written_like", "normalise")


@dataclass(frozen=True)
class Chosen:
    """The run's folder, which is open, and what the search found."""

    folder: Path
    found: Found

    def text(self, selection: str) -> str:
        """Return what the report says of the choice, with the sentence on selected neurons or layers."""
        return " ".join(part for part in (self.found.text, selection) if part)


def automatic(cfg: DictConfig, base: Loaded) -> Chosen | None:
    """If the tuning is `auto`, find the options, and put them in place of `tuning`, the rate, `replay` and `blend`.

    Args:
        cfg: The options of `adapt`; changed in place. A dry run has the family's defaults then, and nothing is tried.
        base: The model to start from.

    Returns:
        The run's folder and what was found; None for other tunings, and for a dry run.

    Raises:
        InputError: an option does not go with `tuning=auto`, or as `search`.
    """
    auto = build(cfg.tuning)
    if not isinstance(auto, Auto):
        return None
    _check(cfg)
    splits = build_splits(cfg.data)
    fill_in(cfg, base.model, len(splits.train))
    if cfg.dry_run:
        tried = candidates(base.model, cfg.optimizer.get("lr"), cfg.replay or 0.0)[: auto.trials]
        log.info("tuning=auto would first try: %s. The costs are those of the first.", "; ".join(map(str, tried)))
        _fill(cfg, {"_target_": tried[0].target, "_partial_": True})
        return None
    folder = open_run(cfg)
    found = search(
        base, splits, auto, folder / "search", epochs=cfg.trainer.max_epochs, learning_rate=cfg.optimizer.get("lr"),
        replay=cfg.replay, blend=cfg.blend, loader=build(cfg.loader), seed=cfg.seed, on_error=cfg.data.on_error,
        trainer=lambda epochs: partial(trainer_of(cfg), max_epochs=epochs), optimizer=build(cfg.optimizer),
        cache=build(cfg.cache), augment=build(cfg.augment), penalty=build(cfg.penalty),
        topographic=build(cfg.topographic), **{name: cfg[name] for name in _OF_ALL_TRIALS},
    )  # fmt: skip
    write_json(folder / "search.json", found.figures())
    chosen = found.candidate
    _fill(cfg, {"_target_": chosen.target, "_partial_": True, **chosen.options})
    OmegaConf.update(cfg, "optimizer.lr", chosen.learning_rate, force_add=True)
    OmegaConf.update(cfg, "replay", chosen.replay)
    if found.blend is not None:
        OmegaConf.update(cfg, "blend", found.blend)
    return Chosen(folder, found)


def _fill(cfg: DictConfig, tuning: dict[str, Any]) -> None:
    OmegaConf.update(cfg, "tuning", tuning, merge=False, force_add=True)


def _check(cfg: DictConfig) -> None:
    if cfg.trainer.get("devices", 1) not in (1, "1"):
        raise InputError(
            "tuning=auto runs in one process: give trainer.devices=1. Train with what it finds on several afterwards."
        )
    if cfg.alphabet != "keep":
        raise InputError(f"tuning=auto compares with the base, whose alphabet it keeps; got alphabet={cfg.alphabet}.")
    if cfg.trainer.get("max_steps", -1) not in (None, -1):
        raise InputError("tuning=auto counts in epochs: leave out trainer.max_steps, and give trainer.max_epochs.")
