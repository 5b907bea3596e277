"""`innertune transcribe`: what is said in audio files, on standard output."""

import sys
from glob import glob
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.splits import check, report
from adapt.errors import InputError
from adapt.inference import answers
from adapt.memory import corrected

AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


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
        texts = answers(model, model.task, fit, build(cfg.loader), "transcribing")
    for utterance, text in zip(fit, texts, strict=True):
        print(text if len(utterances) == 1 else f"{utterance.audio_filepath}\t{text}")


def find_audio(places: list[str], option: str = "audio") -> tuple[list[Utterance], list[str]]:
    """The utterances that files, folders, globs and manifests name, in their order, and a sentence on each bad line.
    `option` is what a user named them by.

    Raises:
        InputError: a place names no audio.
    """
    found: list[Utterance] = []
    problems: list[str] = []
    for place in map(str, places):
        path = Path(place).expanduser()
        if path.suffix == ".jsonl":
            utterances, bad_lines = read_manifest(path, needs_text=False)
            found += utterances
            problems += bad_lines
            continue
        if path.is_dir():
            paths = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO)
        else:
            paths = [path] if path.is_file() else [Path(name) for name in sorted(glob(str(path), recursive=True))]
        if not paths:
            raise InputError(
                f"{option}={place}: there is no such file, and no {', '.join(sorted(AUDIO))} in such a folder or glob."
            )
        found += [Utterance(path, "") for path in paths]
    return found, problems
