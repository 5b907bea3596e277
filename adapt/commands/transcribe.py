"""Transcribe audio files."""

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.corrections.model_memory import corrected
from adapt.data.inputs import find_audio
from adapt.data.splits import check_examples, stop_or_skip
from adapt.errors import InputError
from adapt.models.inference import decode_examples
from adapt.terminal import log_to_stderr, say, visible
from adapt.unlabelled.entropy import adapting


def main(cfg: DictConfig) -> None:
    """Transcribe `cfg.audio`. For one file, print its text; for several, print a line per file: name, tab, text."""
    log_to_stderr()
    utterances, problems = find_audio(list(cfg.audio) if isinstance(cfg.audio, ListConfig) else [cfg.audio])
    loaded = build(cfg.model)
    if not loaded.model.reads_audio:
        raise InputError(f"'{loaded.reference}' reads text, not audio. To translate: innertune translate text='...'.")
    usable, rejected = check_examples(utterances, loaded.model, training=False)
    problems += rejected
    stop_or_skip(problems, cfg.on_error, "on_error")
    for problem in problems:
        say(f"Skipped: {problem}", error=True)  # standard output is for the texts
    with corrected(loaded, str(cfg.corrections)), adapting(loaded.model, cfg.test_time):
        texts = decode_examples(loaded.model, loaded.model.task, usable, build(cfg.loader), "transcribing")
    for utterance, text in zip(usable, texts, strict=True):
        say(visible(text) if len(utterances) == 1 else f"{visible(utterance.name)}\t{visible(text)}", lines=True)
