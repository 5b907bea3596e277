"""Measure a model's error rates, or BLEU and chrF, by group, with intervals."""

import logging
import time

from omegaconf import DictConfig, ListConfig, OmegaConf

from adapt.build import build, build_splits, grouping
from adapt.commands._device import loaded_model
from adapt.commands._options import model_card
from adapt.corrections.model_memory import corrected
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.evaluation.evaluate import TRANSCRIPTS, evaluate
from adapt.evaluation.sweep import summarise
from adapt.hot_words.favour import favouring
from adapt.models.loaded import Loaded
from adapt.report.evaluation_table import print_evaluation
from adapt.report.sweep import write_sweep
from adapt.run import check_output, close_run, open_run
from adapt.unlabelled.entropy import adapting

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Evaluate as `conf/evaluate.yaml` says.

    Writes `metrics.json`, `card.json`, `transcripts.jsonl`, and with interventions `sweep.html`.
    """
    started = time.perf_counter()
    check_output(cfg)
    loaded: Loaded = loaded_model(cfg, double=False)
    splits, skipped = check_splits(build_splits(cfg.data), loaded.model, cfg.data.on_error, long_tests=True)
    if not splits.test and not splits.source_test:
        raise InputError("There is nothing to evaluate on: give data.test=test.jsonl.")
    loader, group_by = build(cfg.loader), grouping(cfg.data)
    words = list(cfg.words) if isinstance(cfg.words, ListConfig) else cfg.words
    with (
        favouring(loaded, words, cfg.ngram, str(cfg.corrections), cfg.ngram_weight),
        corrected(loaded, str(cfg.corrections)), adapting(loaded.model, cfg.test_time),
    ):  # fmt: skip
        conditions = build(cfg.intervention)(loaded, splits, loader)
        if conditions and cfg.test_time == "continual":
            raise InputError(
                "test_time=continual goes on learning from one intervention to the next, so that they cannot be "
                "compared. Give test_time=utterance with intervention=, or evaluate them one by one."
            )
        folder = open_run(cfg)
        result = evaluate(
            loaded, splits, loader=loader, group_by=group_by, interventions=conditions, normalise=cfg.normalise,
            non_speech=cfg.non_speech,
        )  # fmt: skip
    result.save_transcripts(folder / TRANSCRIPTS)
    if result.points:
        title, summary = f"{loaded.reference} under interventions", summarise(result.points, result.metrics[0])
        write_sweep(
            folder / "sweep.html", result.points, result.metrics, result.example_name, title, summary, result.setting,
            OmegaConf.to_yaml(cfg, resolve=True),
        )  # fmt: skip
    metrics = result.figures() | {"seconds": time.perf_counter() - started, "skipped": skipped}
    close_run(folder, metrics, model_card(cfg, loaded))
    print_evaluation(result)
    for metric in result.metrics:
        if metric.signature:
            log.info("%s: %s", metric.label, metric.signature)
    log.info("Metrics and transcripts: %s", folder.absolute())
