"""Where metrics are logged: each function makes one of Lightning's loggers; none needs an account or a network."""

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from adapt.errors import InputError


def csv(folder: Path) -> Logger:
    """A table of metrics, `log/version_0/metrics.csv`; a resumed run goes on in `version_1`."""
    return CSVLogger(folder, name="log")


def tensorboard(folder: Path) -> Logger:
    """TensorBoard's event files in `log/`. Raises InputError without the extra."""
    try:
        return TensorBoardLogger(folder, name="log", version="", default_hp_metric=False)
    except ModuleNotFoundError:
        raise InputError("logger=tensorboard needs an extra: pip install 'innertune[tensorboard]'.") from None


def wandb(folder: Path, project: str = "innertune", offline: bool = True, name: str | None = None) -> Logger:
    """Weights & Biases; offline runs stay in `wandb/` until `wandb sync`. Raises InputError without the extra."""
    try:
        return WandbLogger(name=name or folder.name, save_dir=folder, project=project, offline=offline)
    except ModuleNotFoundError:
        raise InputError("logger=wandb needs an extra: pip install 'innertune[wandb]'.") from None


def log_result(logger: Logger, folder: Path, config: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Log the config, the final metrics, and for wandb the report and the adaptation or model as an artifact."""
    logger.log_hyperparams(config)
    logger.log_metrics({name: value for name, value in _numbers(metrics).items()})
    if isinstance(logger, WandbLogger):
        import wandb as library

        run = logger.experiment
        artifact = library.Artifact(f"{run.id}-result", type="adaptation")
        for name in ("config.yaml", "metrics.json", "comparison.json", "card.json", "report.html", "model.safetensors"):
            if (folder / name).is_file():
                artifact.add_file(str(folder / name))
        if (folder / "adaptation").is_dir():
            artifact.add_dir(str(folder / "adaptation"), name="adaptation")
        run.log_artifact(artifact)
        if (folder / "report.html").is_file():
            run.log({"report": library.Html((folder / "report.html").read_text(encoding="utf-8"))})
    logger.finalize("success")
    if isinstance(logger, WandbLogger):
        logger.experiment.finish()  # writes out what is left, and lets a multirun's next job have a run of its own


def _numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    numbers: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            numbers |= _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = float(value)
    return numbers
