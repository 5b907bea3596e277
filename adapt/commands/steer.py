"""`innertune steer`: fit a steering vector between two groups of examples, measure it on both, and keep it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from adapt.build import build, build_splits
from adapt.checks import check_count, is_number
from adapt.comparison.results import signatures
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.evaluation.steering import fit, pairs_of, two_groups
from adapt.evaluation.sweep import Point, measure
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.report.sweep import write_sweep
from adapt.run import check_output, close_run, command_line, open_run
from interventions.intervene import intervene
from interventions.sites import Site, choose_sites
from interventions.steer_fit import SteeringVectors
from interventions.store import save

log = logging.getLogger(__name__)
METHODS = ("mean", "probe", "pca")


def main(cfg: DictConfig) -> None:
    """Steer as `conf/steer.yaml` says. Leaves `steering.safetensors`, `vectors.safetensors`, `steering.html`,
    `metrics.json` and `card.json`.
    """
    started = time.perf_counter()
    check_output(cfg)
    if cfg.method not in METHODS:
        raise InputError(f"method must be {', '.join(METHODS)}, got {cfg.method!r}.")
    loaded: Loaded = build(cfg.model)
    model = loaded.model
    splits, skipped = check_splits(build_splits(cfg.data), model, cfg.data.on_error)
    training = (*splits.train, *splits.source_train)
    away, toward = two_groups(training, str(cfg.by), cfg.groups)
    fitted = _of(training, cfg.by, away), _of(training, cfg.by, toward)
    measured = {name: _of((*splits.test, *splits.source_test), cfg.by, name) for name in (away, toward)}
    chosen_on = _of(splits.validation, cfg.by, away)
    for what, found in (("data.test", measured[away]), ("data.test", measured[toward])):
        if not found:
            raise InputError(f"Both groups are measured: give examples of {away} and of {toward} in {what}.")
    pattern = list(cfg.sites) if isinstance(cfg.sites, ListConfig) else str(cfg.sites)
    try:
        sites = choose_sites(model.sites, pattern, cfg.part)
    except ValueError as error:
        raise InputError(str(error)) from None
    coefficients = _coefficients(cfg.coefficients)
    check_count("controls", cfg.controls)
    if cfg.method == "pca":
        pairs_of(*fitted)
    folder = open_run(cfg)
    loader: Loader = build(cfg.loader)

    log.info(
        "Fitting from %s (%d %ss) to %s (%d).", away, len(fitted[0]), model.task.example_name, toward, len(fitted[1])
    )
    vectors = fit(model, sites, fitted, cfg.method, loader)
    if cfg.unit:
        vectors = vectors.unit()
    steers = {site.name: vectors.steer(site) for site in vectors.sites}
    provenance = {
        "by": str(cfg.by), "from": away, "to": toward, "method": vectors.method, "counts": list(vectors.counts),
        "command": command_line(),
    }  # fmt: skip
    save(folder / "vectors.safetensors", steers, loaded.fingerprint, **provenance)

    bare = {
        name: model.task.evaluate([e.text for e in found], decode_examples(model, model.task, found, loader, name))
        for name, found in measured.items()
    }
    for name, quality in bare.items():
        log.info("  %s, as it is: %s", name, quality)
    lines = {"": vectors} | {f", random {seed}": vectors.random(seed) for seed in range(cfg.controls)}
    points: list[Point] = []
    for site in vectors.sites:
        for ending, known in lines.items():
            for coefficient in coefficients:
                steer = known.steer(site, coefficient)
                for name, found in measured.items():
                    line = f"{name}{ending}"
                    point, _ = measure(model, [steer], found, bare[name], loader, site.name, line, coefficient)
                    points.append(replace(point, control=bool(ending)))
        _report(site, points, away, model)
    best = _best(model, vectors, coefficients, chosen_on, loader) if chosen_on else None
    told = _summary(model, points, away, toward, best, len(vectors.sites) * len(coefficients))
    if best is not None:
        site, coefficient, _ = best
        save(folder / "steering.safetensors", {site.name: vectors.steer(site, coefficient)}, loaded.fingerprint,
             **provenance, chosen_on=f"validation, {len(chosen_on)} {model.task.example_name}s of {away}")  # fmt: skip
    write_sweep(
        folder / "steering.html", points, model.task.metrics, model.task.example_name, str(cfg.title), told,
        "coefficient", OmegaConf.to_yaml(cfg, resolve=True),
    )  # fmt: skip
    metrics = {
        "points": [point.as_dict() for point in points],
        "bare": {name: quality.as_dict() for name, quality in bare.items()},
        "chosen": None if best is None else {"site": best[0].name, "coefficient": best[1]},
        "norms": {site.name: float(vectors[site].norm()) for site in vectors.sites},
        "seconds": time.perf_counter() - started,
        "skipped": skipped,
    } | signatures(model.task.metrics)  # fmt: skip
    card = {
        "model": {"reference": loaded.reference, "fingerprint": loaded.fingerprint},
        "data": OmegaConf.to_container(cfg.data, resolve=True),
        **provenance,
    }
    close_run(folder, metrics, card)
    log.info("%s", told)
    log.info("Vectors, curves and figures: %s", folder.absolute())


def _coefficients(given: Any) -> list[float]:
    numbers = list(given) if isinstance(given, ListConfig) else [given]
    if not all(map(is_number, numbers)):
        raise InputError(f"coefficients must be a number or a list of numbers, got {given}.")
    coefficients = [float(number) for number in dict.fromkeys(numbers) if number != 0]
    if not coefficients:
        raise InputError("coefficients: give at least one that is not 0; at 0 the model is as it is.")
    return coefficients


def _of(examples: Sequence[Example], by: str, group: str) -> tuple[Example, ...]:
    return tuple(example for example in examples if example.group(str(by)) == group)


def _best(
    model: Model, vectors: SteeringVectors, coefficients: Sequence[float], examples: Sequence[Example], loader: Loader
) -> tuple[Site, float, bool]:
    """The site and coefficient that are best, and whether they are better than no steering."""
    # On other examples than those that are reported: the best of many on the same ones is better than it will be.
    metric = model.task.metrics[0]
    sign = 1 if metric.higher else -1

    def quality(what: str) -> float:
        texts = decode_examples(model, model.task, examples, loader, what)
        return sign * model.task.evaluate([example.text for example in examples], texts).values()[metric.key]

    bare, found = quality("validation"), {}
    for site in vectors.sites:
        for coefficient in coefficients:
            with intervene(model, vectors.steer(site, coefficient)):
                found[site, coefficient] = quality(f"validation {coefficient:g}")
    best = max(found, key=lambda setting: found[setting])
    return *best, found[best] > bare


def _report(site: Site, points: Sequence[Point], away: str, model: Model) -> None:
    metric = model.task.metrics[0]
    own = [point for point in points if point.chart == site.name and point.line == away]
    best = (max if metric.higher else min)(own, key=lambda point: point.quality[metric.key])
    value = metric.scale * best.quality[metric.key]
    log.info("  %-40s %s of %s at best %.1f, coefficient %g", site.name, metric.label, away, value, best.value)


def _summary(
    model: Model, points: Sequence[Point], away: str, toward: str, best: tuple[Site, float, bool] | None, settings: int
) -> str:
    metric = model.task.metrics[0]

    def said(point: Point) -> str:
        before, after = (metric.scale * own[metric.key] for own in (point.bare, point.quality))
        low, high = (metric.scale * end for end in point.difference[metric.key])
        difference = f"{low:+.1f} to {high:+.1f}".replace("-", "−")
        return f"from {before:.1f} to {after:.1f}{metric.unit} (difference {difference})"

    if best is None:
        return f"{settings} settings were measured; there were no validation {model.task.example_name}s of {away} to choose by."
    site, coefficient, gains = best
    at = [point for point in points if point.chart == site.name and point.value == coefficient]
    own = {point.line: point for point in at if not point.control}
    text = (
        f"Steering at {site.name} with coefficient {coefficient:g}, the best of {settings} on validation data"
        f"{', of which none was better than the model as it is' * (not gains)}, "
        f"takes {metric.label} on {away} {said(own[away])}, and on {toward} {said(own[toward])}"
    )
    controls = [point for point in at if point.control and point.line.startswith(f"{away},")]
    if controls:
        mean = metric.scale * sum(point.quality[metric.key] for point in controls) / len(controls)
        text += f"; a random vector as long takes {away} to {mean:.1f}{metric.unit}"
    return text + "."
