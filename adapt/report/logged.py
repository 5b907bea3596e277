"""Log the result of a run with one of Lightning's loggers. `adapt.report.logged_mlflow` has MLflow's own part."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import Logger, MLFlowLogger, WandbLogger

from adapt.files import is_file
from adapt.report.logged_mlflow import comparison_files, log_to_mlflow, measure_files

if TYPE_CHECKING:
    from adapt.comparison.results import Comparison


def log_result(
    logger: Logger,
    folder: Path,
    config: Any,
    metrics: dict[str, Any],
    comparison: "Comparison | None" = None,
) -> None:
    """Log the configuration and the final metrics of a run, and end the logger's run.

    With wandb and MLflow, also log the files of the run as artifacts, the report as HTML, the comparison as tables
    (with the report's audio clips), and the maps as images.
    """
    names = ("config.yaml", "metrics.json", "comparison.json", "comparison.safetensors", "card.json", "report.html")
    names += ("model.safetensors",)
    files = [*(folder / name for name in names), *sorted((folder / "adaptation").glob("*"))]
    files = [path for path in files if is_file(path)]
    if isinstance(logger, MLFlowLogger):
        log_to_mlflow(logger, folder, config, _numbers(metrics), files, comparison_files(comparison))
        return
    media = None if comparison is None else partial(_media, comparison)
    _log(logger, folder, config, metrics, "adaptation", files, media)


def log_measure(logger: Logger, folder: Path, config: Any, metrics: dict[str, Any], files: Sequence[Path]) -> None:
    """Log the configuration and the key figures (`metrics`) of a measure, and end the logger's run.

    With wandb and MLflow, also log the measure's `files` as artifacts, its page as HTML, and the lists in its figures
    as tables.
    """
    files = [*(folder / name for name in ("config.yaml", "metrics.json", "card.json")), *files]
    if isinstance(logger, MLFlowLogger):
        log_to_mlflow(logger, folder, config, _numbers(metrics), files, measure_files(metrics))
        return
    _log(logger, folder, config, metrics, "introspection", files, lambda _: _tables(metrics))


def _log(
    logger: Logger,
    folder: Path,
    config: Any,
    metrics: dict[str, Any],
    kind: str,
    files: Sequence[Path],
    media: Callable[[Path], dict[str, Any]] | None,
) -> None:
    """Log the configuration, the metrics and, with wandb, files and media; end the logger's run.

    `media` returns objects for wandb, and may write the files that they need to the folder that it is given.
    """
    logger.log_hyperparams(config)
    logger.log_metrics(_numbers(metrics))
    if not isinstance(logger, WandbLogger):
        logger.finalize("success")
        return
    import wandb as library

    run: Any = logger.experiment
    artifact = library.Artifact(f"{run.id}-result", type=kind)
    for path in files:
        artifact.add_file(str(path), name=path.relative_to(folder).as_posix())
    run.log_artifact(artifact)
    with TemporaryDirectory() as temporary:  # wandb copies media into the folder of its run
        logged = {} if media is None else media(Path(temporary))
        for page in (path for path in files if path.suffix == ".html"):
            # Injection would change links and fetch a style sheet.
            logged[page.stem] = library.Html(str(page), inject=False)
        if logged:
            run.log(logged)
        logger.finalize("success")
        run.finish()  # flushes, and lets the next job of a multirun start a run of its own


def _tables(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the lists in the figures of a measure as wandb tables."""
    import wandb as library

    from adapt.report.summary_tables import summary_tables

    return {
        f"tables/{name}": library.Table(columns=list(table.columns), data=list(table.rows), allow_mixed_types=True)
        for name, table in summary_tables(metrics).items()
    }


def _media(comparison: "Comparison", folder: Path) -> dict[str, Any]:
    """Return the tables and images of a comparison for wandb. Their files are written to `folder`."""
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
        media[f"comparison/{name}"] = library.Table(columns=list(table.columns), data=list(rows))
    for drawn in comparison.neurons.maps if comparison.neurons else ():
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
