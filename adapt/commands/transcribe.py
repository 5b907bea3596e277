"""Transcribe audio files."""

import sys

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.corrections.model_memory import corrected
from adapt.data.inputs import find_audio
from adapt.data.splits import check, report
from adapt.errors import InputError
from adapt.models.inference import decode_examples


def main(cfg: DictConfig) -> None:
    """Transcribe `cfg.audio`. One file: its text alone. Several: a line each, the file, a tab, and its text."""
    utterances, problems = find_audio(list(cfg.audio) if isinstance(cfg.audio, ListConfig) else [cfg.audio])
    loaded = build(cfg.model)
    model = loaded.model
    if model.reader.unit != "seconds":
        raise InputError(f"'{loaded.reference}' reads text, not audio. For texts: innertune translate text='...'.")
    fit = check(utterances, model, False, problems)
    report(problems, cfg.on_error, "on_error")
    for problem in problems:
        print(f"Skipped: {problem}", file=sys.stderr)  # standard output is for the texts
    with corrected(loaded, str(cfg.corrections)):
        texts = decode_examples(model, model.task, fit, build(cfg.loader), "transcribing")
    for utterance, text in zip(fit, texts, strict=True):
        print(text if len(utterances) == 1 else f"{utterance.audio_filepath}\t{text}")
