"""`innertune translate`: sentences in another language, on standard output."""

import sys
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.data.pairs import Pair, read_lines
from adapt.data.splits import check, report
from adapt.errors import InputError
from adapt.inference import answers
from adapt.memory import corrected


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
    problems += [f"{pair.where}: the line is empty." for pair in pairs if pair.where and not pair.source.strip()]
    fit = check([pair for pair in pairs if pair.source.strip()], loaded.model, False, problems, "text")
    report(problems, cfg.on_error, "on_error")
    for problem in problems:
        print(f"Skipped: {problem}", file=sys.stderr)  # standard output is for the translations
    with corrected(loaded, str(cfg.corrections)):
        texts = answers(loaded.model, loaded.model.task, fit, build(cfg.loader), "translating")
    written = {id(pair): text for pair, text in zip(fit, texts, strict=True)}
    for pair in pairs:
        print(written.get(id(pair), ""))  # an empty line keeps the places of those behind it


def read_sources(place: str, option: str = "file") -> tuple[list[Pair], list[str]]:
    """The sources that a file holds, and a sentence on each bad line: `.jsonl` and `.tsv` as data for training (without
    targets), any other file a text a line, "-" standard input. An empty line of a text file is an empty source; so is a
    bad line of the others, which keeps its place without a `where`. `option` is what a user named them by.

    Raises:
        InputError: there is no such file, or it is not UTF-8 text.
    """
    path = Path(place).expanduser()
    if path.suffix.lower() in (".jsonl", ".tsv"):
        lines = read_lines(path, needs_target=False)
        problems = [str(line) for line in lines if not isinstance(line, Pair)]
        return [line if isinstance(line, Pair) else Pair("") for line in lines], problems
    if place != "-" and not path.is_file():
        raise InputError(f"{option}={place}: there is no such file. Expected a text a line, .jsonl or .tsv.")
    name = "standard input" if place == "-" else place
    try:
        text = (sys.stdin.buffer.read() if place == "-" else path.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{option}={place} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    lines = text.removesuffix("\n").split("\n") if text else []
    return [Pair(line.rstrip("\r"), "", where=f"{name}:{number}") for number, line in enumerate(lines, start=1)], []
