"""Transcribe audio files."""

import io
import logging
import sys

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.corrections.model_memory import corrected
from adapt.data.inputs import find_audio
from adapt.data.splits import check_examples, stop_or_skip
from adapt.errors import InputError
from adapt.models.inference import decode_examples


def main(cfg: DictConfig) -> None:
    """Transcribe `cfg.audio`. For one file, print its text; for several, print a line per file: name, tab, text."""
    # Standard output is for the texts; what is said about the files goes to standard error.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names need not be UTF-8
    utterances, problems = find_audio(list(cfg.audio) if isinstance(cfg.audio, ListConfig) else [cfg.audio])
    loaded = build(cfg.model)
    if not loaded.model.reads_audio:
        raise InputError(f"'{loaded.reference}' reads text, not audio. To translate: innertune translate text='...'.")
    usable, rejected = check_examples(utterances, loaded.model, training=False)
    problems += rejected
    stop_or_skip(problems, cfg.on_error, "on_error")
    for problem in problems:
        print(f"Skipped: {problem}", file=sys.stderr)
    with corrected(loaded, str(cfg.corrections)):
        texts = decode_examples(loaded.model, loaded.model.task, usable, build(cfg.loader), "transcribing")
    for utterance, text in zip(usable, texts, strict=True):
        print(text if len(utterances) == 1 else f"{utterance.name}\t{text}")
