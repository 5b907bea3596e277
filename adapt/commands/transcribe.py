"""Transcribe audio files."""

import hashlib
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.commands._device import loaded_model
from adapt.corrections.model_memory import corrected
from adapt.corrections.paths import store_path
from adapt.data.inputs import find_audio
from adapt.data.manifest import Utterance
from adapt.data.splits import stop_or_skip
from adapt.errors import InputError
from adapt.evaluation.applied import applied
from adapt.files import is_file, user_path
from adapt.formatting import counted
from adapt.hot_words.favour import favoured, favouring
from adapt.models.loaded import Loaded
from adapt.options.early import check_transcribe
from adapt.terminal import log_to_stderr, say, visible
from adapt.transcription.folder import transcribe_into
from adapt.transcription.texts import transcribe_texts
from adapt.unlabelled.entropy import adapting


def main(cfg: DictConfig) -> None:
    """Transcribe `cfg.audio` into files in `cfg.output`, or print the texts.

    For one file, its text is printed; for several, a line per file: name, tab, text.
    """
    log_to_stderr()
    check_transcribe(cfg)
    utterances, problems = find_audio(_list(cfg.audio))
    loaded: Loaded = loaded_model(cfg, double=False)
    if not loaded.model.reads_audio:
        raise InputError(f"'{loaded.reference}' reads text, not audio. To translate: innertune translate text='...'.")
    words = _list(cfg.words) if isinstance(cfg.words, ListConfig) else cfg.words
    with (
        favouring(loaded, words, cfg.ngram, str(cfg.corrections), cfg.ngram_weight),
        corrected(loaded, str(cfg.corrections)), adapting(loaded.model, cfg.test_time),
        applied(loaded, _list(cfg.interventions)),
    ):  # fmt: skip
        if cfg.output is not None:
            _write(cfg, loaded, utterances, problems)
            return
        texts = transcribe_texts(loaded.model, utterances, build(cfg.loader), cfg.vad, cfg.decoding)
    problems += [text.problem for text in texts if text.problem is not None]
    stop_or_skip(problems, cfg.on_error, "on_error")
    for problem in problems:
        say(f"Skipped: {problem}", error=True)  # standard output is for the texts
    for utterance, text in zip(utterances, texts, strict=True):
        if text.problem is None:
            name = "" if len(utterances) == 1 else f"{visible(utterance.name)}\t"
            say(f"{name}{visible(text.text)}", lines=True)


def _write(cfg: DictConfig, loaded: Loaded, utterances: Sequence[Utterance], problems: list[str]) -> None:
    stop_or_skip(problems, cfg.on_error, "on_error")
    result = transcribe_into(
        user_path(cfg.output), loaded.model, utterances, _list(cfg.format) if cfg.format else ["txt"], vad=cfg.vad,
        decoding=cfg.decoding, loader=build(cfg.loader), width=cfg.width, lines=cfg.lines, overwrite=cfg.overwrite,
        on_error=cfg.on_error, made_with=_made_with(cfg, loaded), report=lambda line: say(line, error=True),
    )  # fmt: skip
    for problem in (*problems, *result.problems):
        say(f"Skipped: {problem}", error=True)
    before = counted(len(result.skipped), "recording")
    say(f"{counted(len(result.written), 'file')} written to {cfg.output}, {before} done before.")


def _made_with(cfg: DictConfig, loaded: Loaded) -> dict[str, Any]:
    path = store_path(loaded, str(cfg.corrections))
    stat = path.stat() if path is not None and is_file(path) else None
    options = loaded.model.header().get("generation")
    corrections = None if stat is None else [str(path), stat.st_size, stat.st_mtime_ns]
    made = {
        "model": loaded.fingerprint, "generation": options, "corrections": corrections, "test_time": cfg.test_time,
        "precision": loaded.model.precision,
    }  # fmt: skip
    if files := _list(cfg.interventions):
        made["interventions"] = [hashlib.sha256(user_path(file).read_bytes()).hexdigest() for file in files]
    return made | favoured(cfg.words, cfg.ngram, cfg.ngram_weight)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, ListConfig) else [value]
