"""Compare two existing models, and write the report."""

import logging
import time
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits, grouping
from adapt.commands._finish import finish
from adapt.comparison.compare import check_counts, compare_models
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded
from adapt.models.model import SpeechDecoderModel
from adapt.run import check_output, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Compare as `conf/compare.yaml` says. Leaves `comparison.json`, `report.html`, `metrics.json`, `card.json`."""
    started = time.perf_counter()
    check_output(cfg)
    check_counts(causes=cfg.causes, inside=cfg.compare_neurons, players=cfg.audio_clips)
    before, after = load_model(cfg.before), load_model(cfg.after)
    base = after.header.get("base", {})
    if base.get("fingerprint") == before.fingerprint:
        before.model.with_header(base["model"])  # in the language, say, in which that run used it
    before, after = (_told(loaded, cfg.language) for loaded in (before, after))
    splits, skipped = check_splits(build_splits(cfg.data), after.model, cfg.data.on_error)
    folder = open_run(cfg)
    comparison = compare_models(
        before, after, splits, build(cfg.loader), grouping(cfg.data),
        trained=after.header.get("trained", ()), rows=after.header.get("trained_rows"),
        factors=after.header.get("trained_factors"), causes=cfg.causes, inside=cfg.compare_neurons, players=cfg.audio_clips,
        title=cfg.title, skipped=skipped, config=OmegaConf.to_yaml(cfg, resolve=True),
    )  # fmt: skip
    comparison = replace(comparison, seconds=time.perf_counter() - started)
    finish(folder, cfg, comparison, after.header, after.fingerprint, build(cfg.logger)(folder))


def _told(loaded: Loaded, language: str | None) -> Loaded:
    """A multilingual recogniser, told its language; where there is none to tell, the user is told that."""
    model = loaded.model
    if language is not None:
        if not isinstance(model, SpeechDecoderModel):
            raise InputError(f"language={language} is for models that are told one, and '{loaded.reference}' is not.")
        model.set_generation(replace(model.generation_options, language=language))
        return replace(loaded, header={**loaded.header, **model.header()})
    if isinstance(model, SpeechDecoderModel) and model.multilingual and model.generation_options.language is None:
        log.warning(
            "'%s' writes in many languages and was not told in which: it finds out for each utterance, and the report "
            "cannot show what its neurons do. language=... tells it.", loaded.reference,
        )  # fmt: skip
    return loaded
