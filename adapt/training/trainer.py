"""Make Lightning's trainer, and check before training what would fail or go wrong in it."""

import logging
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from adapt.errors import InputError
from adapt.models.devices import check_accelerator
from adapt.training.option_checks import PRECISIONS, check_length, check_precision


def made_trainer(make: Callable[..., pl.Trainer], **options: Any) -> pl.Trainer:
    """Call `make`, which returns a trainer, with further options.

    Raises:
        InputError: this machine lacks the trainer's device, Lightning refuses an option, there is no number of epochs,
            or training does not work in the trainer's precision.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):  # importing them resets the log level
        logging.getLogger(name).setLevel(logging.WARNING)
    given = getattr(make, "keywords", {}) | options
    check_length(given.get("max_epochs"), given.get("max_steps"))
    check_accelerator(given.get("accelerator", "auto"), given.get("devices", 1))
    try:
        trainer = make(**options)
    except (TypeError, ValueError, MisconfigurationException, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split()).rstrip(".! ")
        raise InputError(f"trainer: Lightning refuses an option ({reason}). Change it, or leave it out.") from None
    check_length(trainer.max_epochs, trainer.max_steps)
    asked = given.get("precision")
    if str(trainer.precision) not in PRECISIONS:
        check_precision(asked)
    if asked in ("16-mixed", 16, "16") and str(trainer.precision) != "16-mixed":
        raise InputError(
            f"trainer.precision={asked} works on a GPU only. On the CPU, give trainer.precision=bf16-mixed or 32-true."
        )
    return trainer


def bare_trainer(make: Callable[..., pl.Trainer]) -> pl.Trainer:
    """Return a trainer that writes and shows nothing. Raises InputError as `made_trainer` does."""
    return made_trainer(
        make, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
