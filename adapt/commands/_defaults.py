"""Fill in the options of training that are null, with those of the model's family."""

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.distributed import is_first
from adapt.models.model import Model
from adapt.training.defaults import Defaults, recipe_options
from adapt.training.prepare import Run

log = logging.getLogger(__name__)

_NAMES = {
    "epochs": "trainer.max_epochs",
    "schedule": "schedule",
    "warmup": "warmup",
    "speeds": "loader.speeds",
    "batch_tokens": "loader.batch_tokens",
}
_UNUSED = {"loader.speeds": [1.0], "loader.batch_tokens": 1000}  # of text, and of audio; the loader needs some value


def fill_in(cfg: DictConfig, model: Model, examples: int, scratch: bool = False) -> dict[str, Any]:
    """Replace null by the default of the model's family, in all options but the learning rate.

    Args:
        cfg: The options of a command that trains; changed in place.
        model: The model that will train.
        examples: The number of training examples.
        scratch: Whether the weights are random.

    Returns:
        The filled-in values, by name.
    """
    filled: dict[str, Any] = {}
    for name, value in recipe_options(model, examples, scratch).items():
        option = _NAMES[name]
        limited = name == "epochs" and cfg.trainer.get("max_steps", -1) not in (None, -1)
        if OmegaConf.select(cfg, option) is None and not limited:
            OmegaConf.update(cfg, option, value)
            filled[option] = value
    for option, value in _UNUSED.items():
        if OmegaConf.select(cfg, option) is None:
            OmegaConf.update(cfg, option, value)
    return filled


def fill_in_rate(cfg: DictConfig, run: Run, filled: dict[str, Any]) -> Defaults:
    """Replace a learning rate of null by the one that the run uses; log and return all that was filled in."""
    if "lr" in cfg.optimizer and cfg.optimizer.lr is None:
        OmegaConf.update(cfg, "optimizer.lr", run.learning_rate)
        filled = {"optimizer.lr": run.learning_rate, **filled}
    defaults = Defaults(run.base.model.recipe.family, run.trains, filled)
    if filled and is_first():
        log.info("%s", defaults)
    return defaults
