"""Sentence pairs, and the files they are kept in: JSONL, TSV, or two text files whose lines belong together."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from adapt.data.manifest import Splits, json_row
from adapt.errors import InputError
from adapt.files import atomic

_TEXT_KEYS = ("domain", "id")
_KEYS = ("source", "target", *_TEXT_KEYS)
Paths = Path | str | Sequence[Path | str]


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation, which may be "" where one only translates.

    `where` says which line of which file it came from, for messages. Keys that we do not know are kept in `extra`.
    """

    source: str
    target: str = ""
    domain: str | None = None
    id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def text(self) -> str:
        """What a model should write."""
        return self.target

    @property
    def name(self) -> str:
        """A short label for messages and reports: the id; else where it stands; else the source sentence."""
        return self.id or self.where or self.source

    def group(self, key: str) -> str:
        """The value of `key` ("domain", "id", or any extra key), as text; "unknown" where the line has none."""
        value = getattr(self, key) if key in _TEXT_KEYS else self.extra.get(key)
        return "unknown" if value is None else str(value)


def read_pairs(
    train: Paths | None = None,
    validation: Paths | None = None,
    test: Paths | None = None,
    source_test: Paths | None = None,
    source_train: Paths | None = None,
) -> Splits:
    """Read the files that are given, each a path or a list of two (see `read_pairs_file`).

    A pair that is measured and also trained on (the same source and target, however spaced) is left out of what is
    measured, and is a problem.

    Raises:
        InputError: a file cannot be used.
    """
    files = {"train": train, "validation": validation, "test": test, "source_test": source_test}
    files |= {"source_train": source_train}
    parts, problems = {}, []
    for name, paths in files.items():
        parts[name], found = read_pairs_file(paths) if paths is not None else ([], [])
        problems += found
    return without_trained(Splits(**{name: tuple(pairs) for name, pairs in parts.items()}, problems=tuple(problems)))


def without_trained(splits: Splits) -> Splits:
    """The splits without what is measured and also trained on; each such pair is named in `problems`."""
    trained = {_folded(pair): pair for pair in reversed((*splits.train, *splits.source_train))}
    kept: dict[str, tuple[Pair, ...]] = {}
    problems = list(splits.problems)
    for name in ("validation", "test", "source_test"):
        pairs = getattr(splits, name)
        kept[name] = tuple(pair for pair in pairs if _folded(pair) not in trained)
        problems += [
            f"{pair.name}: '{pair.source}' is also trained on ({trained[_folded(pair)].name}). "
            "Keep what is measured out of training."
            for pair in pairs
            if _folded(pair) in trained
        ]
    return Splits(train=splits.train, source_train=splits.source_train, **kept, problems=tuple(problems))


def read_pairs_file(paths: Paths, needs_target: bool = True) -> tuple[list[Pair], list[str]]:
    """Read sentence pairs from UTF-8 text, as `paths` says:

    - `x.tsv`: a header line names the columns: source, target, and if you like domain, id, ...; lines are split at tabs
      and nothing else, quotation marks are part of the text;
    - any other file: JSONL, one object a line with the keys source, target, and if you like domain, id, ...;
    - a list of two files, the source language's and the target's: line n of one belongs to line n of the other.

    Returns the pairs and a list of problems, one sentence for each line that could not be used, with its number.
    Whether a problem stops the run or is skipped is for `check_splits` to say (`adapt.data.splits`). Without
    `needs_target` a target may be missing; then it is "".

    Raises:
        InputError: a file cannot be read, two files differ in their number of lines, or there is no line to use.
    """
    rows = read_lines(paths, needs_target)
    pairs = [row for row in rows if isinstance(row, Pair)]
    problems = [str(row) for row in rows if not isinstance(row, Pair)]
    if not pairs:
        several = [paths] if isinstance(paths, (str, Path)) else paths
        first = f" The first problem: {problems[0]}" if problems else " It is empty."
        raise InputError(f"There is no usable sentence pair in '{' and '.join(map(str, several))}'.{first}")
    return pairs, problems


def read_lines(paths: Paths, needs_target: bool = True) -> list[Pair | InputError]:
    """Each line of what `read_pairs_file` reads: its pair, or what is wrong with it.

    Raises:
        InputError: a file cannot be read, or two files differ in their number of lines.
    """
    several = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    if len(several) == 2:
        lines, row = _two_files(*several)
    elif len(several) == 1:
        lines, row = (_tsv if several[0].suffix.lower() == ".tsv" else _jsonl)(several[0])
    else:
        raise InputError(
            f"Expected one file of sentence pairs, or two text files (source, target); got {len(several)} files."
        )
    found: list[Pair | InputError] = []
    for where, line in lines:
        try:
            found.append(_pair(row(line, where), where, needs_target))
        except InputError as error:
            found.append(error)
    return found


def write_pairs(path: Path | str, pairs: Iterable[Pair]) -> None:
    """Write pairs as JSONL, whole or not at all."""
    with atomic(path) as part, open(part, "w", encoding="utf-8") as file:
        for pair in pairs:
            row = {"id": pair.id, "source": pair.source, "target": pair.target or None, "domain": pair.domain}
            row = {key: value for key, value in {**row, **pair.extra}.items() if value is not None}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


# Where each line of a file stands, with the line; and what gives the keys of one, or raises InputError.
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
            f"{path}:1: expected a header line that names the columns, tab-separated, each once, 'source' and 'target' "
            f"among them; got {', '.join(columns)[:80] or 'nothing'}."
        )
    return lines[1:], partial(_tsv_row, columns)


def _tsv_row(columns: Sequence[str], line: str, where: str) -> Mapping[str, Any]:
    cells = line.split("\t")
    if len(cells) != len(columns):
        raise InputError(f"{where}: expected {len(columns)} tab-separated columns, got {len(cells)}.")
    return {key: cell for key, cell in zip(columns, cells, strict=True) if cell}  # an empty cell says nothing


def _two_files(source: Path, target: Path) -> Lines:
    sources, targets = _lines(source), _lines(target)
    if len(sources) != len(targets):
        raise InputError(
            f"'{source}' has {len(sources)} lines and '{target}' has {len(targets)}. Line n of one must be the "
            "translation of line n of the other."
        )
    lines = [(where, (text, other, said)) for (where, text), (other, said) in zip(sources, targets, strict=True)]
    return lines, _two_row


def _two_row(line: tuple[str, str, str], where: str) -> Mapping[str, Any]:
    source, other, target = line
    for empty, full, text in ((where, other, source), (other, where, target)):
        if not text.strip():
            raise InputError(f"{empty}: the line is empty. Delete it together with {full}, or fill it in.")
    return {"source": source, "target": target}


def _lines(path: Path) -> list[tuple[str, str]]:
    """The lines of a file, each with its place."""
    if not path.is_file():
        raise InputError(
            f"There is no file '{path}'. Expected sentence pairs: JSONL, TSV, or a list of two text files."
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The file '{path}' is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    # Neither read_text() nor splitlines(): they also break at signs that may stand inside a sentence.
    lines = text.removesuffix("\n").split("\n") if text else []
    return [(f"{path}:{number}", line.removesuffix("\r")) for number, line in enumerate(lines, start=1)]


def _pair(row: Mapping[str, Any], where: str, needs_target: bool) -> Pair:
    for key in ("source", "target"):
        value = row.get(key)
        if key == "target" and not needs_target and value in (None, ""):
            continue
        if not isinstance(value, str) or not value.strip():
            has = ", ".join(sorted(row)) or "none"
            raise InputError(f"{where}: needs '{key}' with a text that is not empty. It has: {has}.")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError(f"{where}: '{key}' has half of a character (an escape as \\ud83d by itself).")
    return Pair(
        source=row["source"].strip(),
        target=(row.get("target") or "").strip(),
        extra={key: value for key, value in row.items() if key not in _KEYS},
        where=where,
        **{key: None if row.get(key) is None else str(row[key]) for key in _TEXT_KEYS},
    )


def _folded(pair: Pair) -> tuple[str, str]:
    return " ".join(pair.source.split()), " ".join(pair.target.split())
