"""Where metrics are logged: each function makes one of Lightning's loggers; none needs an account or a network."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from adapt.errors import InputError

if TYPE_CHECKING:
    from adapt.comparison import Comparison


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


def log_result(
    logger: Logger,
    folder: Path,
    config: dict[str, Any],
    metrics: dict[str, Any],
    comparison: "Comparison | None" = None,
) -> None:
    """Log the config and the final metrics; for wandb the run's files as an artifact, the report as a page, and what
    was compared as tables, with recordings where the report has them, and maps as pictures.
    """
    logger.log_hyperparams(config)
    logger.log_metrics({name: value for name, value in _numbers(metrics).items()})
    if not isinstance(logger, WandbLogger):
        logger.finalize("success")
        return
    import wandb as library

    run = logger.experiment
    artifact = library.Artifact(f"{run.id}-result", type="adaptation")
    for name in ("config.yaml", "metrics.json", "comparison.json", "card.json", "report.html", "model.safetensors"):
        if (folder / name).is_file():
            artifact.add_file(str(folder / name))
    if (folder / "adaptation").is_dir():
        artifact.add_dir(str(folder / "adaptation"), name="adaptation")
    run.log_artifact(artifact)
    with TemporaryDirectory() as passing:  # media that wandb copies into the run's folder
        media = {} if comparison is None else _media(comparison, Path(passing))
        if (folder / "report.html").is_file():
            # As it is: wandb would send the page's own links to another window, and fetch a style sheet.
            media["report"] = library.Html(str(folder / "report.html"), inject=False)
        if media:
            run.log(media)
        logger.finalize("success")
        run.finish()  # writes out what is left, and lets a multirun's next job have a run of its own


def _media(comparison: "Comparison", folder: Path) -> dict[str, Any]:
    """Tables and pictures of a comparison as wandb's own; files that they are of are written to `folder`."""
    import wandb as library

    from adapt.report.maps import map_picture
    from adapt.report.tables import RECORDING, tables

    media: dict[str, Any] = {}
    for name, table in tables(comparison).items():
        rows = table.rows
        if RECORDING in table.columns:
            place = table.columns.index(RECORDING)
            rows = [list(row) for row in rows]
            for number, row in enumerate(rows):
                if row[place] is not None:
                    path = folder / f"{number}.mp3"
                    path.write_bytes(row[place])
                    row[place] = library.Audio(str(path))
        media[f"comparison/{name}"] = library.Table(columns=table.columns, data=rows)
    for drawn in comparison.inside.maps if comparison.inside else ():
        picture, groups = map_picture(drawn)
        path = folder / f"{drawn.name}.png"
        path.write_bytes(picture)
        caption = f"{drawn.name}: before, after, difference; rows {', '.join(groups)}"
        media[f"maps/{drawn.name}"] = library.Image(str(path), caption=caption)
    return media


def _numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    numbers: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            numbers |= _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = float(value)
    return numbers
