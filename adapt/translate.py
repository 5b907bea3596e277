"""`innertune translate`: sentences in another language, on standard output."""

import sys
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.data.pairs import Pair, read_pairs_file
from adapt.data.splits import check, report
from adapt.errors import InputError
from adapt.inference import answers


def main(cfg: DictConfig) -> None:
    """Translate `cfg.text` and the lines of `cfg.file`: one translation a line, in their order."""
    texts = [] if cfg.text is None else list(cfg.text) if isinstance(cfg.text, ListConfig) else [cfg.text]
    pairs = [Pair(str(text), "", where=f"text {number}") for number, text in enumerate(texts, start=1)]
    problems: list[str] = []
    if cfg.file is not None:
        found, bad_lines = read_sources(str(cfg.file))
        pairs += found
        problems += bad_lines
    if not pairs and not problems:
        raise InputError(
            "There is nothing to translate: give text='...', or file=lines.txt (file=- reads standard input)."
        )
    loaded = build(cfg.model)
    if loaded.model.reader.unit != "tokens":
        raise InputError(f"'{loaded.reference}' reads audio, not text. For audio: innertune transcribe audio=...")
    problems += [f"{pair.where}: the line is empty." for pair in pairs if not pair.source.strip()]
    fit = check([pair for pair in pairs if pair.source.strip()], loaded.model, False, problems, "text")
    report(problems, cfg.on_error, "on_error")
    for problem in problems:
        print(f"Skipped: {problem}", file=sys.stderr)  # standard output is for the translations
    texts = answers(loaded.model, loaded.model.task, fit, build(cfg.loader), "translating")
    written = {id(pair): text for pair, text in zip(fit, texts, strict=True)}
    for pair in pairs:
        print(written.get(id(pair), ""))  # an empty line keeps the places of those behind it


def read_sources(place: str) -> tuple[list[Pair], list[str]]:
    """The sources that a file holds, and a sentence on each bad line: `.jsonl` and `.tsv` as data for training (without
    targets), any other file a text a line, "-" standard input. An empty line of a text file is an empty source.

    Raises:
        InputError: there is no such file, or it is not UTF-8 text.
    """
    path = Path(place).expanduser()
    if path.suffix in (".jsonl", ".tsv"):
        return read_pairs_file(path, needs_target=False)
    if place == "-":
        return _lines(sys.stdin, "standard input"), []
    if not path.is_file():
        raise InputError(f"file={place}: there is no such file. Expected a text a line, .jsonl or .tsv.")
    try:
        return _lines(path.read_text(encoding="utf-8-sig").split("\n"), place), []
    except UnicodeDecodeError as error:
        raise InputError(f"file={place} is not UTF-8 text ({error.reason} at byte {error.start}).") from None


def _lines(lines: Iterable[str], name: str) -> list[Pair]:
    sources = [line.rstrip("\r\n") for line in lines]
    if sources and not sources[-1]:
        sources.pop()  # what stands behind the last line's end is no line
    return [Pair(source, "", where=f"{name}:{number}") for number, source in enumerate(sources, start=1)]
