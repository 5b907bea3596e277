"""Sentence pairs and their files: JSONL, CSV, TSV, TMX, or two text files with parallel lines."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.data.example import Phoneme
from adapt.data.formats.pairs import Column, PairColumns, pair_rows, two_file_rows
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.files import atomic, file_problem, user_path

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
    source_validation: Paths | None = None,
    source_column: Column | None = None,
    target_column: Column | None = None,
    source_lang: str | None = None,
    target_lang: str | None = None,
    labelled: bool = True,
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
        source_validation: further pairs of the source, on which a blend is chosen.
        source_column: the column or key of the source sentence, as in `read_pairs_file`.
        target_column: the same for the translation.
        source_lang: the language of the source sentences, as in `read_pairs_file`.
        target_lang: the same for the translations.
        labelled: whether the target's sentences need translations. If not, `train`, `validation` and `test` may also be
            text files with one sentence per line.

    Returns:
        The splits, with one sentence in `problems` for each line that cannot be used.

    Raises:
        InputError: a file cannot be used.
    """
    files = {"train": train, "validation": validation, "test": test, "source_test": source_test}
    files |= {"source_train": source_train, "source_validation": source_validation}
    parts, problems = {}, []
    for name, paths in files.items():
        chosen = source_column, target_column, source_lang, target_lang
        needs_target = labelled or name.startswith("source")
        if paths is None:
            parts[name], bad_lines = [], []
        elif not needs_target and (lines := sentences_of(paths)) is not None:
            parts[name], bad_lines = lines, []
        else:
            parts[name], bad_lines = read_pairs_file(paths, needs_target, *chosen)
            parts[name] = [pair for pair in parts[name] if pair.source.strip()]
        problems += bad_lines
    return without_trained(Splits(**{name: tuple(pairs) for name, pairs in parts.items()}, problems=tuple(problems)))


def without_trained(splits: Splits) -> Splits:
    """Return the splits without test and validation pairs that are also training pairs; `problems` names these."""
    trained = {_key(pair): pair for pair in reversed((*splits.train, *splits.source_train))}
    kept: dict[str, tuple[Pair, ...]] = {}
    problems = list(splits.problems)
    for name in ("validation", "test", "source_test", "source_validation"):
        pairs = getattr(splits, name)
        kept[name] = tuple(pair for pair in pairs if _key(pair) not in trained)
        problems += [
            f"{pair.name}: '{pair.source}' is also in the training data ({trained[_key(pair)].name}). "
            "Remove it from one of them."
            for pair in pairs
            if _key(pair) in trained
        ]
    return Splits(train=splits.train, source_train=splits.source_train, **kept, problems=tuple(problems))


def read_pairs_file(
    paths: Paths,
    needs_target: bool = True,
    source_column: Column | None = None,
    target_column: Column | None = None,
    source_lang: str | None = None,
    target_lang: str | None = None,
) -> tuple[list[Pair], list[str]]:
    """Read sentence pairs. The format is chosen by looking at the file.

    Args:
        paths: one of
            - JSON lines or a JSON array: objects with source, target, and optionally domain, id, ..., or with
              {"translation": {"en": ..., "de": ...}} as Hugging Face writes.
            - a table, CSV or TSV, whose header names the columns, or one of two columns without a header. In a TSV,
              quotation marks are part of the text.
            - a translation memory, TMX.
            - a list of two text files, source and target. Line n of one is the translation of line n of the other.
        needs_target: whether a line without a target is unusable. If not, its target becomes "".
        source_column: the column or key of the source sentence, if it has another name; or its number from 1 in a table
            without a header.
        target_column: the same for the translation.
        source_lang: the language of the source sentences, in a TMX or a "translation"; None for a TMX's own.
        target_lang: the same for the translations; None for the only other language of a TMX.

    Returns:
        The pairs, and one sentence with the line's number for each line that cannot be used.
        `adapt.data.splits.check_splits` decides whether such problems stop the run.

    Raises:
        InputError: a file cannot be read, two files differ in their number of lines, or no line can be used.
    """
    rows = read_lines(paths, needs_target, PairColumns(source_column, target_column, source_lang, target_lang))
    pairs = [row for row in rows if isinstance(row, Pair)]
    problems = [str(row) for row in rows if not isinstance(row, Pair)]
    if not pairs:
        files = [paths] if isinstance(paths, (str, Path)) else paths
        first = f" The first problem: {problems[0]}" if problems else " It is empty."
        raise InputError(f"There is no usable sentence pair in '{' and '.join(map(str, files))}'.{first}")
    return pairs, problems


def sentences_of(paths: Paths) -> list[Pair] | None:
    """Return a pair without a target for each line of a text file that is not empty; None for any other file.

    Raises:
        InputError: the file is not UTF-8 text, or has no sentence.
    """
    path = user_path(paths) if isinstance(paths, (str, Path)) else None
    if path is None or path.suffix.lower() != ".txt" or file_problem(path) is not None:
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    found = [Pair(line.strip(), where=f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"'{path}' has no sentence. Write one per line.")
    return found


def read_lines(paths: Paths, needs_target: bool = True, columns: PairColumns | None = None) -> list[Pair | InputError]:
    """Return, for each line of the files, its pair, or the error if the line is bad. Paths are as in `read_pairs_file`.

    Blank lines are left out, or, if no target is needed, become pairs with an empty source.

    Raises:
        InputError: a file cannot be read, or two files differ in their number of lines.
    """
    files = [user_path(paths)] if isinstance(paths, (str, Path)) else [user_path(path) for path in paths]
    if len(files) not in (1, 2):
        raise InputError(
            f"Expected one file of sentence pairs, or two text files (source, target); got {len(files)} files."
        )
    for path in files:
        problem = file_problem(path)
        if problem is not None:
            raise InputError(
                f"{problem[0].upper()}{problem[1:]}. Expected sentence pairs: JSON lines, CSV, TSV, TMX, or a list of "
                "two text files."
            )
    one = len(files) == 1
    rows = pair_rows(files[0], columns or PairColumns(), needs_target) if one else two_file_rows(*files)
    pairs: list[Pair | InputError] = []
    for row in rows:
        try:
            pairs.append(row if isinstance(row, InputError) else _pair(row.values, row.where, needs_target))
        except InputError as error:
            pairs.append(error)
    return pairs


def write_pairs(path: Path | str, pairs: Iterable[Pair]) -> None:
    """Write pairs as JSONL, atomically."""
    with atomic(path) as part, open(part, "w", encoding="utf-8", errors="backslashreplace") as file:
        for pair in pairs:
            row = {"id": pair.id, "source": pair.source, "target": pair.target or None, "domain": pair.domain}
            row = {key: value for key, value in {**row, **pair.extra}.items() if value is not None}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _pair(row: Mapping[str, Any], where: str, needs_target: bool) -> Pair:
    if not row and not needs_target:
        return Pair("", where=where)
    for key in ("source", "target"):
        value = row.get(key)
        if key == "target" and not needs_target and value in (None, ""):
            continue
        if not isinstance(value, str) or not value.strip():
            has = ", ".join(sorted(row)) or "none"
            raise InputError(f"{where}: needs '{key}' with a non-empty text. It has: {has}.")
    return Pair(
        source=row["source"].strip(),
        target=(row.get("target") or "").strip(),
        extra={key: value for key, value in row.items() if key not in _KEYS},
        where=where,
        **{key: None if row.get(key) is None else str(row[key]) for key in _TEXT_KEYS},
    )


def _key(pair: Any) -> tuple[str, str]:
    return " ".join(pair.source.split()), " ".join(pair.target.split())
