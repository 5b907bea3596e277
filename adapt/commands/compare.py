"""Compare two existing models, and write the report."""

import logging
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits, grouping
from adapt.checks import check_counts
from adapt.commands._finish import finish
from adapt.comparison.compare import compare
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded
from adapt.models.model import SpeechDecoderModel
from adapt.run import check_output, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Compare as `conf/compare.yaml` says. Writes `comparison.json`, `report.html`, `metrics.json` and `card.json`."""
    check_output(cfg)
    check_counts(0, causes=cfg.causes, compare_neurons=cfg.compare_neurons, audio_clips=cfg.audio_clips)
    before, after = load_model(cfg.before), load_model(cfg.after)
    base = after.header.get("base", {})
    if base.get("fingerprint") == before.fingerprint:
        before.model.with_header(base["model"])  # decode as in that run, for example in the same language
    before, after = (with_language(loaded, cfg.language) for loaded in (before, after))
    splits, skipped = check_splits(build_splits(cfg.data), after.model, cfg.data.on_error)
    folder = open_run(cfg)
    comparison = compare(
        before, after, splits, loader=build(cfg.loader), group_by=grouping(cfg.data), causes=cfg.causes,
        compare_neurons=cfg.compare_neurons, audio_clips=cfg.audio_clips, title=str(cfg.title), skipped=skipped,
        config=OmegaConf.to_yaml(cfg, resolve=True),
    )  # fmt: skip
    finish(folder, cfg, comparison, after.header, after.fingerprint, build(cfg.logger)(folder))


def with_language(loaded: Loaded, language: str | None) -> Loaded:
    """Set the language of a multilingual recogniser. Raises InputError if the model has none to set."""
    model = loaded.model
    if language is not None:
        if not isinstance(model, SpeechDecoderModel):
            raise InputError(f"language={language} is for multilingual recognisers; '{loaded.reference}' is not one.")
        model.set_generation(replace(model.generation_options, language=language))
        return replace(loaded, header={**loaded.header, **model.header()})
    if isinstance(model, SpeechDecoderModel) and model.multilingual and model.generation_options.language is None:
        log.warning(
            "'%s' is multilingual and has no language set: it detects the language of each utterance, and the report "
            "cannot compare its neurons. Give language=...", loaded.reference,
        )  # fmt: skip
    return loaded
