"""Sentence pairs from Hugging Face datasets: on the hub, in a local folder or file, or written by `save_to_disk`.

Needs the extra innertune[datasets]. Only data files (Parquet, JSON, CSV, Arrow) are read; scripts are never run.
"""

from typing import Any

from adapt.data.manifest import Splits
from adapt.data.pairs import Pair, without_trained
from adapt.errors import InputError
from adapt.files import exists, is_file, is_folder, user_path

_FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".arrow": "arrow"}


def read_dataset(
    path: str,
    source: str,
    target: str,
    name: str | None = None,
    train: str | None = "train",
    validation: str | None = None,
    test: str | None = "test",
    source_test: str | None = None,
    source_train: str | None = None,
    domain: str | None = None,
) -> Splits:
    """Read sentence pairs from the splits of a dataset.

    A row that lacks a text is left out and reported in `problems`, and so is a validation or test pair that is also in
    the training data. The column "id" is read if present; other columns with text or numbers are kept in `extra`.

    Args:
        path: OWNER/NAME on the hub, a folder or a file.
        source: the source column, or a language in the column "translation", with rows such as
            {"en": ..., "de": ...}.
        target: the same for the target language.
        name: the dataset's configuration, such as "de-en".
        train: the dataset's split to train on, or None. The arguments below also name splits of the dataset. Unless the
            dataset was written by `save_to_disk`, each may be part of a split: "train[:1000]", "train[90%:]".
        validation: the split on which the best epoch is selected.
        test: the test split of the target.
        source_test: the test split of the source, which the model should not forget.
        source_train: the split with further pairs of the source, for replay and for comparing neurons.
        domain: the column that names each pair's domain, or None.

    Returns:
        The splits, with one sentence in `problems` for each row that cannot be used.

    Raises:
        InputError: `datasets` is not installed, or the dataset, a split or a column is missing.
    """
    try:
        import datasets
    except ImportError:
        raise InputError(
            "Reading a Hugging Face dataset needs the library `datasets`: pip install 'innertune[datasets]'."
        ) from None
    datasets.disable_progress_bars()
    wanted = {"train": train, "validation": validation, "test": test, "source_test": source_test}
    wanted |= {"source_train": source_train}
    parts: dict[str, Any] = {}
    problems: list[str] = []
    for part, split in wanted.items():
        if split is None:
            continue
        pairs, bad_rows = _pairs(_load(path, name, split), f"{path} {split}", source, target, domain)
        if not pairs:
            raise InputError(f"'{path}' has no usable row in '{split}'. {bad_rows[0] if bad_rows else 'It is empty.'}")
        parts[part] = tuple(pairs)
        problems += bad_rows
    return without_trained(Splits(**parts, problems=tuple(problems)))


def _load(path: str, name: str | None, split: str) -> Any:
    """Load one split as a `datasets.Dataset`."""
    import datasets
    from datasets.exceptions import DatasetsError

    local = user_path(path)
    try:
        if is_file(local / "dataset_dict.json"):
            saved: Any = datasets.load_from_disk(str(local))
            if split not in saved:
                raise ValueError(f"Unknown split '{split}'. It has {', '.join(saved)}.")
            return saved[split]
        if is_file(local / "state.json"):
            raise ValueError("It is a single split. Save all splits with DatasetDict.save_to_disk.")
        if is_file(local):
            if local.suffix not in _FORMATS:
                raise ValueError(f"Expected a file in {', '.join(_FORMATS)}.")
            return datasets.load_dataset(_FORMATS[local.suffix], data_files=str(local), split=split)
        return datasets.load_dataset(str(local) if is_folder(local) else path, name, split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        if exists(local):
            raise InputError(
                f"The dataset '{path}' cannot be read ({reason}). Expected Parquet, JSON, CSV or Arrow files, or a "
                "folder written by save_to_disk, and the name of one of its splits."
            ) from None
        raise InputError(
            f"There is no folder or file '{path}', and no dataset of that name could be loaded from the Hugging Face "
            f"hub ({reason}). Give a folder or file, or OWNER/NAME. Without a network, only datasets that were "
            "downloaded before are available."
        ) from None


def _pairs(rows: Any, where: str, source: str, target: str, domain: str | None) -> tuple[list[Pair], list[str]]:
    """Return the pairs of a split, and one sentence for each row that cannot be used."""
    columns = rows.column_names
    languages = _languages(rows.features.get("translation"))
    inside = bool(languages) and not {source, target} <= set(columns)
    sides = languages if inside else columns
    for column, known in ((source, sides), (target, sides), *([(domain, columns)] if domain else [])):
        if column not in known:
            more = f", and inside 'translation' {', '.join(languages)}" if languages else ""
            raise InputError(f"{where} has no column '{column}'. It has {', '.join(columns)}{more}.")
    used = {"translation", "id", domain} if inside else {source, target, "id", domain}
    pairs, problems = [], []
    for number, row in enumerate(rows):
        texts = row["translation"] if inside else row
        empty = [key for key in (source, target) if not isinstance(texts[key], str) or not texts[key].strip()]
        if empty:
            value = repr(texts[empty[0]])[:60]
            problems.append(f"{where}[{number}]: '{empty[0]}' must be a non-empty text; got {value}.")
            continue
        pairs.append(
            Pair(
                texts[source].strip(),
                texts[target].strip(),
                domain=None if not domain or row[domain] is None else str(row[domain]),
                id=None if row.get("id") is None else str(row["id"]),
                extra={key: row[key] for key in columns if key not in used and isinstance(row[key], (str, int, float))},
                where=f"{where}[{number}]",
            )
        )
    return pairs, problems


def _languages(feature: Any) -> list[str]:
    """Return the languages of a translation column, a `Translation` feature or a struct with a key for each."""
    return list(getattr(feature, "languages", None) or (feature if isinstance(feature, dict) else ()))
