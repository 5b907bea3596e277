"""`innertune choose`: score every neuron by one or several measures, choose, and draw who was chosen."""

import logging
import time
from itertools import combinations
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from adapt.build import build, build_splits
from adapt.data.splits import check_splits
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.files import write_json
from adapt.report.selection import ScoredMeasure, top_neurons, write_selection
from adapt.run import check_output, close_run, command_line, open_run
from adapt.tuning.overlap import chance_overlap, overlap, rank_correlation
from adapt.tuning.selection import best_neurons, neuron_weights, score, select

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Choose as `conf/choose.yaml` says. Leaves `scores.safetensors` and `choice.safetensors` of the first measure, a
    `scores-NAME.safetensors` of each other, `choice.json`, `choice.html`, `metrics.json` and `card.json`.
    """
    started = time.perf_counter()
    check_output(cfg)
    names = [str(name) for name in (cfg.choose if isinstance(cfg.choose, ListConfig) else [cfg.choose])]
    labels = [Path(name).name for name in names]
    if not names or len(set(labels)) < len(labels):
        raise InputError(f"choose: expected one or several different measures, got {', '.join(names) or 'none'}.")
    loaded = build(cfg.model)
    model = loaded.model
    splits, skipped = check_splits(build_splits(cfg.data), model, cfg.data.on_error)
    sample = TuningData(splits.train, splits.source_train, build(cfg.loader))
    sites = list(cfg.sites) if isinstance(cfg.sites, ListConfig) else str(cfg.sites)
    measured, seconds = [], {}
    for name, label in zip(names, labels, strict=True):
        began = time.perf_counter()
        try:
            scores, said = score(model, name, sample, sites, cfg.seed, cfg.examples)
            chosen = best_neurons(model, scores, cfg.amount, cfg.per == "site", cfg.weights)
            costs = {site.name: neuron_weights(model, site) for site in scores.sites}
        except ValueError as error:
            raise InputError(f"choose={name}: {error}") from None
        seconds[label] = time.perf_counter() - began
        measured.append(ScoredMeasure(label, scores, chosen, select(model, chosen, said).summary, costs))
        log.info("%s", measured[-1].summary)
    folder = open_run(cfg)
    provenance = {"model": loaded.fingerprint, "command": command_line()}
    for number, own in enumerate(measured):
        ending = f"-{own.name.removesuffix('.safetensors')}" if number else ""
        own.scores.save(folder / f"scores{ending}.safetensors", measure=own.name, **provenance)
    measured[0].chosen.save(folder / "choice.safetensors", said=measured[0].summary, **provenance)
    pairs = [_pair(one, other) for one, other in combinations(measured, 2)]
    told = {"measures": {own.name: _told(own, measured) for own in measured}, "pairs": pairs}
    write_json(folder / "choice.json", told)
    write_selection(folder / "choice.html", measured, pairs, str(cfg.title), OmegaConf.to_yaml(cfg, resolve=True))
    metrics = {
        "chosen": {own.name: len(own.chosen) for own in measured}, "pairs": pairs,
        "measure_seconds": seconds, "seconds": time.perf_counter() - started, "skipped": skipped,
    }  # fmt: skip
    card = {
        "model": {"reference": loaded.reference, "fingerprint": loaded.fingerprint}, "command": command_line(),
        "data": OmegaConf.to_container(cfg.data, resolve=True), "choice": measured[0].summary,
    }  # fmt: skip
    close_run(folder, metrics, card)
    for pair in pairs:
        log.info(
            "  %s and %s: overlap %.2f (%.2f by chance), rank correlation %.2f",
            *(pair[key] for key in ("one", "other", "overlap", "chance", "correlation")),
        )
    log.info("Scores, choice and picture: %s", folder.absolute())
    log.info("To train these: tuning=neurons tuning.neurons=%s", folder / "choice.safetensors")


def _pair(one: ScoredMeasure, other: ScoredMeasure) -> dict[str, Any]:
    try:
        correlation = rank_correlation(one.scores, other.scores)
    except ValueError as error:
        raise InputError(f"choose={one.name} and {other.name}: {error}") from None
    return {
        "one": one.name, "other": other.name, "both": len(one.chosen & other.chosen),
        "overlap": overlap(one.chosen, other.chosen), "chance": chance_overlap(one.chosen, other.chosen),
        "correlation": correlation,
    }  # fmt: skip


def _told(own: ScoredMeasure, measured: list[ScoredMeasure]) -> dict[str, Any]:
    others = [other.name for other in measured if other is not own]
    top = [
        {**one, "other_ranks": dict(zip(others, one["other_ranks"], strict=True))} for one in top_neurons(own, measured)
    ]
    return {
        "said": own.summary,
        "sites": [
            {
                "name": site.name, "units": site.units, "chosen": list(own.chosen[site]),
                "mean": float(own.scores[site].mean()), "highest": float(own.scores[site].max()),
            }
            for site in own.scores.sites
        ],
        "top": top,
    }  # fmt: skip
