"""Loggers of a training run: CSV, TensorBoard, Weights & Biases."""

from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from adapt.errors import InputError


def csv(folder: Path) -> Logger:
    """Log to `log/version_0/metrics.csv`; a resumed run continues in `version_1`."""
    return CSVLogger(folder, name="log")


def tensorboard(folder: Path) -> Logger:
    """Log to TensorBoard event files in `log/`. Raises InputError without the extra."""
    try:
        return TensorBoardLogger(folder, name="log", version="", default_hp_metric=False)
    except ModuleNotFoundError:
        raise InputError("logger=tensorboard needs an extra: pip install 'innertune[tensorboard]'.") from None


def wandb(folder: Path, project: str = "innertune", offline: bool = True, name: str | None = None) -> Logger:
    """Log to Weights & Biases; offline runs stay in `wandb/` until `wandb sync`.

    Raises InputError without the extra.
    """
    try:
        return WandbLogger(name=name or folder.name, save_dir=folder, project=project, offline=offline)
    except ModuleNotFoundError:
        raise InputError("logger=wandb needs an extra: pip install 'innertune[wandb]'.") from None
