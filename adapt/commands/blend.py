"""Blend existing models in weight space: one adaptation with its base, or several into one."""

import logging
import time
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from adapt.blending.blend import Blended, blend
from adapt.build import build, build_splits, grouping
from adapt.checks import check_counts
from adapt.commands._finish import end_of_run, finish
from adapt.commands._options import plain
from adapt.comparison.compare import compare
from adapt.data.manifest import Splits
from adapt.data.splits import SPLITS, check_splits
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.run import check_output, close_run, command_line, open_run
from interventions.files import FileError
from interventions.neurons import Scores

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Blend as `conf/blend.yaml` says. Writes an adaptation, metrics and a card; with test data, a report too."""
    started = time.perf_counter()
    check_output(cfg)
    check_counts(0, causes=cfg.causes, compare_neurons=cfg.compare_neurons, audio_clips=cfg.audio_clips)
    options = plain(
        cfg, "device", "method", "base", "weights", "density", "strength", "statistics", "forget", "seed", "factor"
    )
    if isinstance(options["factor"], str) and options["factor"] != "auto":
        options["factor"] = _scores(options["factor"])
    names = plain(cfg, "models")["models"]
    names = [names] if isinstance(names, str) else names
    splits, skipped = build_splits(cfg.data), []
    if any(getattr(splits, name) for name in SPLITS):
        splits, skipped = check_splits(splits, load_model(names[0]).model, cfg.data.on_error)
    loader = build(cfg.loader)
    result = blend(names, **options, splits=splits, loader=loader)
    folder = open_run(cfg)
    result.save(folder / "adaptation")
    if result.front is not None:
        log.info("%s", result.front.reason)
    if splits.test or splits.source_test:
        comparison = compare(
            result.base, result.loaded, splits, loader=loader, group_by=grouping(cfg.data), causes=cfg.causes,
            compare_neurons=cfg.compare_neurons, audio_clips=cfg.audio_clips, title=cfg.title, skipped=skipped,
            config=OmegaConf.to_yaml(cfg, resolve=True), run=end_of_run(cfg, result.loaded.model, splits),
        )  # fmt: skip
        comparison = replace(comparison, blend=result.front, seconds=time.perf_counter() - started)
        finish(folder, cfg, comparison, result.loaded.header, result.loaded.fingerprint, build(cfg.logger)(folder))
    else:
        _finish_without_tests(folder, cfg, result, splits, time.perf_counter() - started)


def _finish_without_tests(folder, cfg: DictConfig, result: Blended, splits: Splits, seconds: float) -> None:
    front = {} if result.front is None else {"blend": result.front.figures()}
    card = {"model": result.loaded.header, "fingerprint": result.loaded.fingerprint, "command": command_line(),
            "seed": cfg.seed, "base": {"reference": result.base.reference}, **result.facts}  # fmt: skip
    close_run(folder, {**front, "seconds": seconds}, card)
    log.info("Adaptation of '%s': %s", result.base.reference, (folder / "adaptation").absolute())
    if not splits.validation:
        log.info("It was not evaluated. To compare it with its base: innertune compare before=... after=%s", folder)


def _scores(path: str) -> Scores:
    try:
        return Scores.load(path)
    except FileError as error:
        raise InputError(f"factor must be auto, a number, numbers by layer, or a file of scores: {error}") from None
