"""Make Lightning's trainer, and check before training what would fail or go wrong in it."""

import logging
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from adapt.errors import InputError

# In other precisions the weights themselves have another type: frozen ones would not keep their bits, and inputs do not
# fit them.
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


def made_trainer(make: Callable[..., pl.Trainer], **options: Any) -> pl.Trainer:
    """Call `make`, which returns a trainer, with further options.

    Raises:
        InputError: Lightning refuses an option, there is no number of epochs, or training does not work in the
            trainer's precision.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):  # importing them resets the log level
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        trainer = make(**options)
        epochs, steps = trainer.max_epochs, trainer.max_steps
        if any(not isinstance(n, int) for n in (epochs or 0, steps)) or (epochs == -1 == steps):
            # The learning rate's schedule needs the number of steps.
            raise ValueError(f"max_epochs must be a number of epochs of at least 0; got {epochs!r}")
    except (TypeError, ValueError, MisconfigurationException, RuntimeError, ImportError) as error:
        raise InputError(
            f"trainer: {' '.join(str(error).split())}. `innertune adapt --cfg job` shows the options."
        ) from None
    asked = getattr(make, "keywords", {}).get("precision")
    if str(trainer.precision) not in PRECISIONS:
        raise InputError(
            f"trainer.precision={asked} would change the type of all weights, frozen ones included. Give 32-true, or "
            "bf16-mixed or 16-mixed, which compute in 16 bits and keep the weights in 32."
        )
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
