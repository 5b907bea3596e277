"""Hugging Face datasets with an Audio column: a Parquet file, or a folder written by `save_to_disk`.

Needs the extra innertune[datasets]. The audio stays encoded (`Audio(decode=False)`), so torchcodec is not needed. It is
unpacked into the cache.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapt.data.formats.rows import Row, Rows
from adapt.data.formats.unpacked import LARGEST, store
from adapt.errors import InputError
from adapt.files import is_file, shown


def dataset_rows(path: Path, audio: str | None = None) -> Rows:
    """Yield the rows of a dataset, with the audio as a path under "audio_filepath".

    Args:
        path: the Parquet file, or the folder of one split.
        audio: the column with the audio; None if there is only one.

    Raises:
        InputError: `datasets` is not installed, the dataset cannot be read, or it has no single audio column.
    """
    rows, columns, found = _open(path)
    if audio is not None and audio not in columns:
        raise InputError(
            f"{shown(path)} has no column '{audio}'. It has {', '.join(columns)}. Correct data.audio_column."
        )
    if audio is None and len(found) != 1:
        problem = f"several columns with audio ({', '.join(found)})" if found else "no column with audio"
        raise InputError(
            f"{shown(path)} has {problem}. It has {', '.join(columns)}. Choose with data.audio_column=NAME."
        )
    column = audio or found[0]
    for number, row in enumerate(rows):
        where = f"{path}:{number + 1}"
        try:
            file = _file(row[column], path, where)
        except InputError as error:
            yield error
            continue
        yield Row({"audio_filepath": file, **_plain(row, column)}, where)


def _open(path: Path) -> tuple[Any, list[str], list[str]]:
    """Return the rows, the names of the columns, and those with audio."""
    try:
        import datasets
    except ImportError:
        raise InputError(
            "Reading a Hugging Face dataset needs the library `datasets`: pip install 'innertune[datasets]'."
        ) from None
    datasets.disable_progress_bars()
    try:
        if is_file(path):
            kind = "arrow" if path.suffix == ".arrow" else "parquet"
            rows: Any = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True)
        else:
            rows = datasets.load_from_disk(str(path))
        features = dict(rows.features or {})
        found = [name for name, feature in features.items() if _is_audio(feature)]
        for name in found:
            rows = rows.cast_column(name, datasets.Audio(decode=False))
    except Exception as error:  # pyarrow's errors have many types
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(f"The dataset {shown(path)} cannot be read ({reason}).") from None
    return rows, list(features), found


def _is_audio(feature: Any) -> bool:
    if isinstance(feature, Mapping):  # a Parquet file that another library wrote
        return {"bytes", "path"} <= feature.keys()
    return type(feature).__name__ == "Audio"


def _file(value: Any, path: Path, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: the row has no audio.")
    data, name = value.get("bytes"), value.get("path")
    if isinstance(data, bytes) and data:
        if len(data) > LARGEST:
            raise InputError(f"{where}: the audio has more than a gigabyte.")
        return str(store(data, str(name or "")))
    if not name:
        raise InputError(f"{where}: the row has no audio.")
    return str(path.parent / str(name)) if is_file(path) else str(path / str(name))


def _plain(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != column and isinstance(value, (str, int, float, bool))}
