"""Store corrected transcripts or translations, which the model gives from now on."""

import getpass
import logging

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.commands._device import loaded_model
from adapt.corrections.correct import correct_examples, open_or_create
from adapt.corrections.layer_sweep import choose_layer_for, format_sweep
from adapt.corrections.outcome import Outcome, format_outcome, format_summary
from adapt.corrections.paths import store_path
from adapt.corrections.reading import correction, cut_corrections, read_corrections, read_protected
from adapt.data.example import Example
from adapt.errors import InputError
from adapt.models.loaded import Loaded
from adapt.options.early import check_correct
from adapt.terminal import log_lines
from interventions.corrections.store import CorrectionStore

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Correct the examples of `conf/correct.yaml` and log the outcomes. A model without a memory gets one."""
    check_correct(cfg)
    loaded: Loaded = loaded_model(cfg)
    path = store_path(loaded, str(cfg.corrections))
    assert path is not None  # it is None for corrections=off only
    examples, protected = cut_corrections(loaded.model, _examples(cfg, loaded)), None
    strength = None if cfg.strength is None else float(cfg.strength)
    site, loader, exists = cfg.site, build(cfg.loader), CorrectionStore.exists(path)
    if cfg.protected is not None and not exists:
        protected = read_protected(loaded.model, cfg.protected, examples)
    if site == "sweep" or isinstance(site, ListConfig):
        names = None if site == "sweep" else [str(name) for name in site]
        sweep = choose_layer_for(loaded, examples, protected, path, names, strength, loader)
        log_lines(log, format_sweep(sweep, loaded.model.task.example_name))
        site = sweep.chosen.site
    memory = open_or_create(loaded, protected, path, None if site is None else str(site), strength, loader)
    if not exists:
        log.info("%s stores corrections in %s, at %s.", loaded.reference, path, memory.site)

    def report(example: Example, outcome: Outcome) -> None:
        log_lines(log, format_outcome(outcome, example, loaded.model.task.example_name))

    options = (bool(cfg.force), bool(cfg.check_protected), report, cfg.normalise)
    outcomes = correct_examples(memory, examples, _user() if cfg.author is None else str(cfg.author), *options)
    if len(outcomes) > 1:
        log.info("%s", format_summary(outcomes))
    if all(outcome.refused for outcome in outcomes):
        raise InputError(
            "Nothing was stored. force=true stores a refused text anyway, but only for exactly this output."
        )


def _examples(cfg: DictConfig, loaded: Loaded) -> list[Example]:
    if cfg.file is not None:
        return read_corrections(loaded.model, str(cfg.file))
    speech, sentence = (cfg.audio, cfg.text), (cfg.source, cfg.target)
    if loaded.model.reads_audio:
        given, other, usage = speech, sentence, "reads audio: give audio=FILE and text='what was said'"
    else:
        given, other, usage = sentence, speech, "translates: give source='...' and target='its translation'"
    if None in given or other != (None, None):
        raise InputError(f"'{loaded.reference}' {usage}, or file=FILE.jsonl with many corrections.")
    return [correction(loaded.model, str(given[0]), str(given[1]), None if cfg.speaker is None else str(cfg.speaker))]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, the user may have no name
        return ""
