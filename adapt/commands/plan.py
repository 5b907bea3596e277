"""Measure the learning curve and extrapolate it, and choose what to label next."""

import logging
import time
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits
from adapt.commands._device import loaded_model, trainer_of
from adapt.commands._options import model_card, plain
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.formatting import duration
from adapt.models.loaded import Loaded
from adapt.planning.candidates import measures_for
from adapt.planning.choose import next_examples, next_sentences
from adapt.planning.curve import learning_curve, subsets
from adapt.planning.estimate import curve_seconds, measuring_seconds
from adapt.planning.files import write_batch
from adapt.planning.forecast import forecast, usual_more
from adapt.planning.next_batch import NextBatch
from adapt.planning.read import read_candidates
from adapt.report.plan import write_plan
from adapt.run import check_flags, check_output, close_run, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Plan as `conf/plan.yaml` says. Writes `plan.html`, `metrics.json`, `card.json`, and what to label next."""
    started = time.perf_counter()
    check_flags(cfg)
    if not cfg.dry_run:
        check_output(cfg)
    if cfg.trainer.devices not in (1, "1"):
        raise InputError(f"plan trains on one device: trainer.devices=1. Got {cfg.trainer.devices}.")
    loaded: Loaded = loaded_model(cfg)
    loader: Loader = build(cfg.loader)
    splits, _ = check_splits(build_splits(cfg.data), loaded.model, cfg.data.on_error, loader.speeds)
    audio, sentences = plain(cfg, "audio", "sentences").values()
    candidates: Any = read_candidates(loaded, audio, sentences, splits, cfg.on_error)
    has_curve = bool(splits.train and splits.test) if cfg.curve is None else bool(cfg.curve)
    if not has_curve and not candidates:
        raise InputError("plan needs data.train= and data.test= for a learning curve, or audio= or sentences=.")
    shares, orders, epochs = plain(cfg, "shares", "orders", "epochs").values()
    runs = subsets(loaded.model, splits, shares, orders, epochs, cfg.seed) if has_curve else []
    seconds = curve_seconds(loaded, splits, runs, loader) if runs else 0.0
    if candidates and not isinstance(candidates[0], str):
        names = measures_for(loaded.model, cfg.criterion)
        seconds += measuring_seconds(loaded, candidates, names, loader)
    log.info("%d models to train, %d candidates: about %s.", len(runs), len(candidates), duration(seconds))
    if cfg.dry_run:
        return
    folder = open_run(cfg)
    curve = found = batch = None
    if has_curve:
        rate = {} if cfg.learning_rate is None else {"learning_rate": cfg.learning_rate}
        curve = learning_curve(
            loaded, splits, build(cfg.tuning), shares=shares, orders=orders, epochs=epochs, folder=folder / "curve",
            trainer=trainer_of(cfg), seed=cfg.seed, loader=loader, **rate,
        )  # fmt: skip
        found = forecast(curve, usual_more(curve) if cfg.more is None else cfg.more, seed=cfg.seed)
        log.info("%s", found.sentence)
    if candidates:
        batch = _choice(cfg, loaded, candidates, splits, loader, folder / "measured")
        written = write_batch(folder, batch)
        log.info("%s Chosen: %s. Scores of all: %s", batch.sentence, *written)
    write_plan(folder / "plan.html", curve, found, batch, str(cfg.title), OmegaConf.to_yaml(cfg, resolve=True))
    metrics: dict[str, Any] = {"seconds": time.perf_counter() - started}
    for name, part in (("curve", curve), ("forecast", found), ("next", batch)):
        metrics |= {} if part is None else {name: part.figures()}
    close_run(folder, metrics, model_card(cfg, loaded))
    log.info("Page: %s", (folder / "plan.html").absolute())


def _choice(cfg: DictConfig, loaded: Loaded, candidates: Any, splits: Splits, loader: Loader, folder: Any) -> NextBatch:
    options: dict[str, Any] = plain(cfg, "minutes", "number", "criterion", "units", "voice", "seed")
    if isinstance(candidates[0], str):
        return next_sentences(loaded, candidates, splits.train, loader=loader, **options)
    return next_examples(loaded, candidates, splits.train, loader=loader, folder=folder, **options)
