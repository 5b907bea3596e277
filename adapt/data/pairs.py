"""Sentence pairs and their files: JSONL, TSV, or two text files with parallel lines."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from adapt.data.example import Phoneme
from adapt.data.manifest import Splits, json_row
from adapt.errors import InputError
from adapt.files import atomic

_TEXT_KEYS = ("domain", "id")
_KEYS = ("source", "target", *_TEXT_KEYS)
Paths = Path | str | Sequence[Path | str]


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation.

    Attributes:
        source: the sentence to translate.
        target: the reference translation; "" if there is none.
        domain, id: the domain and the identifier; None if unknown.
        extra: all other keys of the line.
        where: the file and line that the pair comes from, for messages.
    """

    source: str
    target: str = ""
    domain: str | None = None
    id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def text(self) -> str:
        """The reference translation."""
        return self.target

    @property
    def phonemes(self) -> tuple[Phoneme, ...]:
        """Always empty: text has no phonemes."""
        return ()

    @property
    def name(self) -> str:
        """The name in reports and messages: the id, else the file and line, else the source sentence."""
        return self.id or self.where or self.source

    def group(self, key: str) -> str:
        """Return the value of `key` ("domain", "id" or any extra key) as text, or "unknown" if there is none."""
        value = getattr(self, key) if key in _TEXT_KEYS else self.extra.get(key)
        return "unknown" if value is None else str(value)


def read_pairs(
    train: Paths | None = None,
    validation: Paths | None = None,
    test: Paths | None = None,
    source_test: Paths | None = None,
    source_train: Paths | None = None,
) -> Splits:
    """Read splits of sentence pairs.

    Validation and test pairs that are also training pairs (same source and target, up to white space) are left out and
    reported in `problems`.

    Args:
        train: a file or a list of two files (see `read_pairs_file`), or None. The other arguments take the same.
        validation: pairs of the target on which the best epoch is selected.
        test: test pairs of the target.
        source_test: test pairs of the source, which the model should not forget.
        source_train: further pairs of the source, for replay and for comparing neurons.

    Returns:
        The splits, with one sentence in `problems` for each line that cannot be used.

    Raises:
        InputError: a file cannot be used.
    """
    files = {"train": train, "validation": validation, "test": test, "source_test": source_test}
    files |= {"source_train": source_train}
    parts, problems = {}, []
    for name, paths in files.items():
        parts[name], bad_lines = read_pairs_file(paths) if paths is not None else ([], [])
        problems += bad_lines
    return without_trained(Splits(**{name: tuple(pairs) for name, pairs in parts.items()}, problems=tuple(problems)))


def without_trained(splits: Splits) -> Splits:
    """Return the splits without test and validation pairs that are also training pairs; `problems` names these."""
    trained = {_key(pair): pair for pair in reversed((*splits.train, *splits.source_train))}
    kept: dict[str, tuple[Pair, ...]] = {}
    problems = list(splits.problems)
    for name in ("validation", "test", "source_test"):
        pairs = getattr(splits, name)
        kept[name] = tuple(pair for pair in pairs if _key(pair) not in trained)
        problems += [
            f"{pair.name}: '{pair.source}' is also in the training data ({trained[_key(pair)].name}). "
            "Remove it from one of them."
            for pair in pairs
            if _key(pair) in trained
        ]
    return Splits(train=splits.train, source_train=splits.source_train, **kept, problems=tuple(problems))


def read_pairs_file(paths: Paths, needs_target: bool = True) -> tuple[list[Pair], list[str]]:
    """Read sentence pairs from UTF-8 files.

    Args:
        paths: one of
            - a `.tsv` file. Its header line names the columns: source, target, and optionally domain, id, ... Cells are
              separated by tabs only, and quotation marks are part of the text.
            - any other file, as JSONL: one object per line with source, target, and optionally domain, id, ...
            - a list of two text files, source and target. Line n of one is the translation of line n of the other.
        needs_target: whether a line without a target is unusable. If not, its target becomes "".

    Returns:
        The pairs, and one sentence with the line's number for each line that cannot be used.
        `adapt.data.splits.check_splits` decides whether such problems stop the run.

    Raises:
        InputError: a file cannot be read, two files differ in their number of lines, or no line can be used.
    """
    rows = read_lines(paths, needs_target)
    pairs = [row for row in rows if isinstance(row, Pair)]
    problems = [str(row) for row in rows if not isinstance(row, Pair)]
    if not pairs:
        files = [paths] if isinstance(paths, (str, Path)) else paths
        first = f" The first problem: {problems[0]}" if problems else " It is empty."
        raise InputError(f"There is no usable sentence pair in '{' and '.join(map(str, files))}'.{first}")
    return pairs, problems


def read_lines(paths: Paths, needs_target: bool = True) -> list[Pair | InputError]:
    """Return, for each line of the files, its pair, or the error if the line is bad. Paths are as in `read_pairs_file`.

    Raises:
        InputError: a file cannot be read, or two files differ in their number of lines.
    """
    files = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    if len(files) == 2:
        lines, row = _two_files(*files)
    elif len(files) == 1:
        lines, row = (_tsv if files[0].suffix.lower() == ".tsv" else _jsonl)(files[0])
    else:
        raise InputError(
            f"Expected one file of sentence pairs, or two text files (source, target); got {len(files)} files."
        )
    rows: list[Pair | InputError] = []
    for where, line in lines:
        try:
            rows.append(_pair(row(line, where), where, needs_target))
        except InputError as error:
            rows.append(error)
    return rows


def write_pairs(path: Path | str, pairs: Iterable[Pair]) -> None:
    """Write pairs as JSONL, atomically."""
    with atomic(path) as part, open(part, "w", encoding="utf-8") as file:
        for pair in pairs:
            row = {"id": pair.id, "source": pair.source, "target": pair.target or None, "domain": pair.domain}
            row = {key: value for key, value in {**row, **pair.extra}.items() if value is not None}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


# The lines of a file, each with its place, and a function that parses a line or raises InputError.
Lines = tuple[list[tuple[str, Any]], Callable[[Any, str], Mapping[str, Any]]]


def _jsonl(path: Path) -> Lines:
    return _lines(path), _json_row


def _json_row(line: str, where: str) -> Mapping[str, Any]:
    return json_row(line, where, "'source' and 'target'")


def _tsv(path: Path) -> Lines:
    lines = _lines(path)
    columns = [column.strip() for column in lines[0][1].split("\t")] if lines else []
    if "source" not in columns or len(set(columns)) < len(columns):
        raise InputError(
            f"{path}:1: expected a header line with tab-separated, distinct column names, among them 'source' and "
            f"'target'; got {', '.join(columns)[:80] or 'nothing'}."
        )
    return lines[1:], partial(_tsv_row, columns)


def _tsv_row(columns: Sequence[str], line: str, where: str) -> Mapping[str, Any]:
    cells = line.split("\t")
    if len(cells) != len(columns):
        raise InputError(f"{where}: expected {len(columns)} tab-separated columns, got {len(cells)}.")
    return {key: cell for key, cell in zip(columns, cells, strict=True) if cell}  # an empty cell is a missing value


def _two_files(source: Path, target: Path) -> Lines:
    sources, targets = _lines(source), _lines(target)
    if len(sources) != len(targets):
        raise InputError(
            f"'{source}' has {len(sources)} lines and '{target}' has {len(targets)}. Line n of one must be the "
            "translation of line n of the other."
        )
    pairs = zip(sources, targets, strict=True)
    return [(where, (text, other, translation)) for (where, text), (other, translation) in pairs], _two_row


def _two_row(line: tuple[str, str, str], where: str) -> Mapping[str, Any]:
    source, target_where, target = line
    for empty, other, text in ((where, target_where, source), (target_where, where, target)):
        if not text.strip():
            raise InputError(f"{empty}: the line is empty. Delete it together with {other}, or fill it in.")
    return {"source": source, "target": target}


def _lines(path: Path) -> list[tuple[str, str]]:
    """Return the lines of a file, each with its place, FILE:NUMBER."""
    if not path.is_file():
        raise InputError(
            f"There is no file '{path}'. Expected sentence pairs: JSONL, TSV, or a list of two text files."
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The file '{path}' is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    # read_text() and splitlines() would also break at characters that may be part of a sentence.
    lines = text.removesuffix("\n").split("\n") if text else []
    return [(f"{path}:{number}", line.removesuffix("\r")) for number, line in enumerate(lines, start=1)]


def _pair(row: Mapping[str, Any], where: str, needs_target: bool) -> Pair:
    for key in ("source", "target"):
        value = row.get(key)
        if key == "target" and not needs_target and value in (None, ""):
            continue
        if not isinstance(value, str) or not value.strip():
            has = ", ".join(sorted(row)) or "none"
            raise InputError(f"{where}: needs '{key}' with a non-empty text. It has: {has}.")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError(f"{where}: '{key}' contains half of a character (a lone escape such as \\ud83d).")
    return Pair(
        source=row["source"].strip(),
        target=(row.get("target") or "").strip(),
        extra={key: value for key, value in row.items() if key not in _KEYS},
        where=where,
        **{key: None if row.get(key) is None else str(row[key]) for key in _TEXT_KEYS},
    )


def _key(pair: Any) -> tuple[str, str]:
    return " ".join(pair.source.split()), " ".join(pair.target.split())
