"""Where metrics are logged: each function makes one of Lightning's loggers; none needs an account or a network."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import Logger, WandbLogger

if TYPE_CHECKING:
    from adapt.comparison.results import Comparison


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
    names = ("config.yaml", "metrics.json", "comparison.json", "card.json", "report.html", "model.safetensors")
    files = [*(folder / name for name in names), *sorted((folder / "adaptation").glob("*"))]
    media = None if comparison is None else partial(_media, comparison)
    _log(logger, folder, config, metrics, "adaptation", [path for path in files if path.is_file()], media)


def log_measure(
    logger: Logger, folder: Path, config: dict[str, Any], metrics: dict[str, Any], files: Sequence[Path]
) -> None:
    """Log the config and the numbers of a measure; for wandb its `files` as an artifact, its pages as they are, and
    what it lists as tables.
    """
    files = [*(folder / name for name in ("config.yaml", "metrics.json", "card.json")), *files]
    _log(logger, folder, config, metrics, "introspection", files, lambda _: _listed(metrics))


def _log(
    logger: Logger,
    folder: Path,
    config: dict[str, Any],
    metrics: dict[str, Any],
    kind: str,
    files: Sequence[Path],
    media: Callable[[Path], dict[str, Any]] | None,
) -> None:
    """Log, and end the logger's run. `media` makes wandb's tables and pictures, whose files it writes to a folder."""
    logger.log_hyperparams(config)
    logger.log_metrics(_numbers(metrics))
    if not isinstance(logger, WandbLogger):
        logger.finalize("success")
        return
    import wandb as library

    run = logger.experiment
    artifact = library.Artifact(f"{run.id}-result", type=kind)
    for path in files:
        artifact.add_file(str(path), name=path.relative_to(folder).as_posix())
    run.log_artifact(artifact)
    with TemporaryDirectory() as passing:  # media that wandb copies into the run's folder
        found = {} if media is None else media(Path(passing))
        for page in (path for path in files if path.suffix == ".html"):
            # As it is: wandb would send the page's own links to another window, and fetch a style sheet.
            found[page.stem] = library.Html(str(page), inject=False)
        if found:
            run.log(found)
        logger.finalize("success")
        run.finish()  # writes out what is left, and lets a multirun's next job have a run of its own


def _listed(metrics: dict[str, Any]) -> dict[str, Any]:
    """The lists in a measure's numbers as wandb's tables."""
    import wandb as library

    from adapt.report.summary_tables import summary_tables

    found = summary_tables(metrics)
    return {
        f"tables/{name}": library.Table(columns=table.columns, data=table.rows, allow_mixed_types=True)
        for name, table in found.items()
    }


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
