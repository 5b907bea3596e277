"""Sentence pairs from a Hugging Face dataset: on the hub, in a local folder or file, or as `save_to_disk` wrote it.

Needs the extra innertune[datasets]. Datasets are data files (Parquet, JSON, CSV, Arrow): a script in one is never run.
"""

from pathlib import Path
from typing import Any

from adapt.data.manifest import Splits
from adapt.data.pairs import Pair, without_trained
from adapt.errors import InputError

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
    """Read the splits that are named; None leaves one empty.

    `path` is OWNER/NAME on the hub, a folder or a file; `name` is the dataset's configuration, such as "de-en". Splits
    are named as the dataset names them, and may be parts of one where it was not written by `save_to_disk`:
    "train[:1000]", "train[90%:]". `source` and `target` are columns, or languages inside the column "translation", as
    in {"translation": {"en": ..., "de": ...}}; `domain` is a column that says the domain, and "id" is read where it is
    there. Other columns that hold a text or a number are kept in `extra`.

    A row without one of the texts is a problem, and so is a pair that is measured and also trained on.

    Raises:
        InputError: `datasets` is not installed, or the dataset, a split or a column is not there.
    """
    try:
        import datasets
    except ImportError:
        raise InputError(
            "Reading a Hugging Face dataset needs the library `datasets`. Install innertune[datasets]."
        ) from None
    datasets.disable_progress_bars()
    wanted = {"train": train, "validation": validation, "test": test, "source_test": source_test}
    wanted |= {"source_train": source_train}
    parts, problems = {}, []
    for part, split in wanted.items():
        if split is None:
            continue
        pairs, found = _pairs(_load(path, name, split), f"{path} {split}", source, target, domain)
        if not pairs:
            raise InputError(f"'{path}' has no usable row in '{split}'. {found[0] if found else 'It is empty.'}")
        parts[part] = tuple(pairs)
        problems += found
    return without_trained(Splits(**parts, problems=tuple(problems)))


def _load(path: str, name: str | None, split: str) -> Any:
    """One split, as a `datasets.Dataset`."""
    import datasets

    local = Path(path).expanduser()
    try:
        if (local / "dataset_dict.json").is_file():
            saved = datasets.load_from_disk(str(local))
            if split not in saved:
                raise ValueError(f"Unknown split '{split}'. It has {', '.join(saved)}.")
            return saved[split]
        if (local / "state.json").is_file():
            raise ValueError("It is one split of a dataset. Save all of them by DatasetDict.save_to_disk.")
        if local.is_file():
            if local.suffix not in _FORMATS:
                raise ValueError(f"Expected a file in {', '.join(_FORMATS)}.")
            return datasets.load_dataset(_FORMATS[local.suffix], data_files=str(local), split=split)
        return datasets.load_dataset(str(local) if local.is_dir() else path, name, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        said = " ".join(str(error).split())[:300].rstrip(".")
        if local.exists():
            raise InputError(
                f"The dataset '{path}' cannot be read ({said}). Expected Parquet, JSON, CSV or Arrow files, or what "
                "save_to_disk wrote, and the name of one of its splits."
            ) from None
        raise InputError(
            f"There is no folder or file '{path}', and no dataset of that name could be had from the Hugging Face hub "
            f"({said}). Give a folder or file, or with a network OWNER/NAME; what was fetched once also works without."
        ) from None


def _pairs(rows: Any, where: str, source: str, target: str, domain: str | None) -> tuple[list[Pair], list[str]]:
    """The pairs of a split, and a sentence on each row that cannot be used."""
    columns = rows.column_names
    languages = _languages(rows.features.get("translation"))
    inside = bool(languages) and not {source, target} <= set(columns)
    there = languages if inside else columns
    for column, known in ((source, there), (target, there), *([(domain, columns)] if domain else [])):
        if column not in known:
            more = f", and inside 'translation' {', '.join(languages)}" if languages else ""
            raise InputError(f"{where} has no column '{column}'. It has {', '.join(columns)}{more}.")
    used = {"translation", "id", domain} if inside else {source, target, "id", domain}
    pairs, problems = [], []
    for number, row in enumerate(rows):
        texts = row["translation"] if inside else row
        empty = [key for key in (source, target) if not isinstance(texts[key], str) or not texts[key].strip()]
        if empty:
            got = repr(texts[empty[0]])[:60]
            problems.append(f"{where}[{number}]: '{empty[0]}' must be a text that is not empty, got {got}.")
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
    """The languages in a column: a feature of texts by language, or an ordinary struct."""
    return list(getattr(feature, "languages", None) or (feature if isinstance(feature, dict) else ()))
