"""Compare two existing models, and write the report."""

import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits, grouping
from adapt.checks import check_counts
from adapt.commands._finish import end_of_run, finish
from adapt.commands._options import plain
from adapt.comparison.compare import compare
from adapt.data.normalisers import check_normalise
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.devices import device_named, place
from adapt.models.hf_translation import HFTranslation
from adapt.models.loaded import Loaded
from adapt.models.model import SpeechDecoderModel
from adapt.run import check_output, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Compare as `conf/compare.yaml` says. Writes `comparison.json`, `report.html`, `metrics.json` and `card.json`."""
    check_output(cfg)
    names = ("causes", "compare_neurons", "audio_clips", "non_speech")
    check_counts(0, **{name: cfg[name] for name in names})
    check_normalise(cfg.normalise)
    device = device_named(cfg.device, double=True)
    before, after = (place(load_model(name), device, cfg.precision) for name in (cfg.before, cfg.after))
    base = after.header.get("base", {})
    if base.get("fingerprint") == before.fingerprint:
        before.model.with_header(base["model"])  # decode as in that run, for example in the same language
    options = {"language": cfg.language, **plain(cfg, "model")["model"]}
    before, after = (with_options(loaded, options) for loaded in (before, after))
    splits, skipped = check_splits(build_splits(cfg.data), after.model, cfg.data.on_error, long_tests=True)
    folder = open_run(cfg)
    comparison = compare(
        before, after, splits, loader=build(cfg.loader), group_by=grouping(cfg.data), causes=cfg.causes,
        compare_neurons=cfg.compare_neurons, audio_clips=cfg.audio_clips, non_speech=cfg.non_speech,
        normalise=cfg.normalise, title=cfg.title, skipped=skipped,
        config=OmegaConf.to_yaml(cfg, resolve=True), run=end_of_run(cfg, after.model, splits),
    )  # fmt: skip
    finish(folder, cfg, comparison, after.header, after.fingerprint, build(cfg.logger)(folder))


def with_options(loaded: Loaded, options: Mapping[str, Any]) -> Loaded:
    """Set how a model answers: its language, beams, ... Raises InputError if its family does not have an option."""
    model, given = loaded.model, {name: value for name, value in options.items() if value is not None}
    if isinstance(model, SpeechDecoderModel):
        known, apply = model.generation_options, model.set_generation
    elif isinstance(model, HFTranslation):
        known, apply = model.translation_options, model.set_translation
    else:
        known, apply = None, None
    if "language" in given and not isinstance(model, SpeechDecoderModel):
        raise InputError(
            f"language={given['language']} is for multilingual recognisers; '{loaded.reference}' is not one."
        )
    names = [] if known is None else [field.name for field in fields(known)]
    for name in given:
        if name not in names:
            has = f"Its options: {', '.join(names)}." if names else "It has no options for its answers."
            raise InputError(f"{name}={given[name]}: '{loaded.reference}' has no such option. {has}")
    if given and known is not None and apply is not None:
        apply(replace(known, **given))  # pyright: ignore[reportArgumentType]
        return replace(loaded, header={**loaded.header, **model.header()})
    if isinstance(model, SpeechDecoderModel) and model.multilingual and model.generation_options.language is None:
        log.warning(
            "'%s' is multilingual and has no language set: it detects the language of each utterance, and the report "
            "cannot compare its neurons. Give language=...", loaded.reference,
        )  # fmt: skip
    return loaded
