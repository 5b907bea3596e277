"""Translate sentences."""

import sys

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.corrections.model_memory import corrected
from adapt.data.inputs import read_sources
from adapt.data.pairs import Pair
from adapt.data.splits import check, report
from adapt.errors import InputError
from adapt.models.inference import decode_examples


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
        texts = decode_examples(loaded.model, loaded.model.task, fit, build(cfg.loader), "translating")
    written = {id(pair): text for pair, text in zip(fit, texts, strict=True)}
    for pair in pairs:
        print(written.get(id(pair), ""))  # an empty line keeps the places of those behind it
