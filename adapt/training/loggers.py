"""Loggers of a training run: CSV, TensorBoard, Weights & Biases, MLflow."""

import os
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

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
        logger = WandbLogger(name=name or folder.name, save_dir=folder, project=project, offline=offline)
    except ModuleNotFoundError:
        raise InputError("logger=wandb needs an extra: pip install 'innertune[wandb]'.") from None
    logger._wandb_init.pop("anonymous", None)  # Lightning always passes it on, and wandb warns that it has no effect
    return logger


def mlflow(folder: Path, experiment: str = "innertune", uri: str | None = None, name: str | None = None) -> Logger:
    """Log to MLflow: to the store or server `uri`, or else to files in `mlruns/` in the run's folder.

    Look at these with `mlflow ui --backend-store-uri FOLDER/mlruns`. Raises InputError without the extra, or without
    what a database needs.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the only store that mlflow-skinny can write by itself
    store = uri or (folder.absolute() / "mlruns").as_uri()
    try:
        return MLFlowLogger(experiment_name=experiment, run_name=name or folder.name, tracking_uri=store)
    except ModuleNotFoundError as error:
        if error.name not in (None, "mlflow"):
            raise InputError(f"uri={uri} needs '{error.name}', which comes with: pip install mlflow") from None
        raise InputError("logger=mlflow needs an extra: pip install 'innertune[mlflow]'.") from None
