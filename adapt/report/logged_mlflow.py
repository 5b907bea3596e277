"""Log the result of a run with MLflow: parameters, metrics, files, and tables, recordings and maps as artifacts."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import MLFlowLogger

if TYPE_CHECKING:
    from adapt.comparison.results import Comparison
    from adapt.report.tables import Table

_LONGEST_NAME = 250  # characters, MLflow's limit


def log_to_mlflow(
    logger: MLFlowLogger,
    folder: Path,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    files: Sequence[Path],
    media: Mapping[str, bytes],
) -> None:
    """Log a finished run, and end the logger's run.

    Args:
        logger: The run's logger.
        folder: The run's folder.
        config: The options, which become parameters.
        metrics: Final figures by name.
        files: Files in `folder`, which become artifacts under the same names.
        media: Further artifacts: the content of each file by its name, with "/" between folders.
    """
    client, run = logger.experiment, logger.run_id
    logger.log_hyperparams(_named(config))
    logger.log_metrics({_name(key): value for key, value in metrics.items()})
    for path in files:
        parent = path.relative_to(folder).parent
        client.log_artifact(run, str(path), None if parent == Path() else parent.as_posix())
    with TemporaryDirectory() as temporary:
        for name, content in media.items():
            path = Path(temporary, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if media:
            client.log_artifacts(run, temporary)
    logger.finalize("success")


def comparison_files(comparison: "Comparison | None") -> dict[str, bytes]:
    """Return a comparison's tables as JSON, its recordings as MP3 and its maps as PNG, by file name."""
    if comparison is None:
        return {}
    from adapt.report.maps import map_picture
    from adapt.report.tables import RECORDING, tables

    files: dict[str, bytes] = {}
    for name, table in tables(comparison).items():
        rows = [list(row) for row in table.rows]
        if RECORDING in table.columns:
            place = table.columns.index(RECORDING)
            for number, row in enumerate(rows):
                if row[place] is not None:
                    files[f"recordings/{number}.mp3"] = row[place]
                    row[place] = f"recordings/{number}.mp3"
        files[f"tables/{name}.json"] = _table(table.columns, rows)
    for drawn in comparison.neurons.maps if comparison.neurons else ():
        files[f"maps/{_name(drawn.name)}.png"], _ = map_picture(drawn)
    return files


def measure_files(metrics: dict[str, Any]) -> dict[str, bytes]:
    """Return the lists in the figures of a measure as tables in JSON, by file name."""
    from adapt.report.summary_tables import summary_tables

    found: dict[str, Table] = summary_tables(metrics)
    return {f"tables/{_name(name)}.json": _table(table.columns, table.rows) for name, table in found.items()}


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return a table in the form that MLflow shows: pandas' orient "split"."""
    return json.dumps({"columns": list(columns), "data": [list(row) for row in rows]}).encode()


def _named(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _name(str(key)): _named(value) if isinstance(value, Mapping) else value for key, value in config.items()
    }  # fmt: skip


def _name(text: str) -> str:
    """Return `text` as a name that MLflow accepts; options and groups of the data may have any name."""
    parts = [re.sub(r"[^\w. -]", "_", part).strip() for part in text.split("/")]
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)[:_LONGEST_NAME]
