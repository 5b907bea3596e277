"""Fit a steering vector between two groups of examples, and evaluate it on both groups."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, get_args

from adapt.data.example import Example
from adapt.data.loader import Loader, as_loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.evaluation.steering_fit import Method, check_pairs, fit_vectors, two_groups
from adapt.evaluation.steering_result import CONTROL, Setting, SteeringResult
from adapt.evaluation.sweep import SweepPoint, measure
from adapt.metrics import Metric
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.models.writing import normalising
from interventions.intervene import intervene
from interventions.sites import Part, Site, choose_sites
from interventions.steer_fit import SteeringVectors

log = logging.getLogger(__name__)


def steer(
    loaded: Loaded,
    splits: Splits,
    *,
    group_by: str,
    groups: Sequence[str] | str | None = None,
    sites: str | Sequence[str] = "*",
    part: Part | None = None,
    method: Method = "mean",
    unit_length: bool = False,
    coefficients: float | Sequence[float] = (-0.5, 0.25, 0.5, 1, 1.5, 2),
    controls: int = 1,
    loader: Loader | None = None,
) -> SteeringResult:
    """Fit a steering vector from one group to another at each site, and evaluate it on test data of both groups.

    The best setting is chosen on validation data of the first group. Chosen on the test data, its result there would
    look better than it is.

    Args:
        loaded: The model.
        splits: Training data of both groups, test data of both, and validation data of the first.
        group_by: The key of the data that defines the groups, such as "accent".
        groups: The group to steer from and the group to steer to; None takes the only two in the training data, in
            order of appearance.
        sites: Globs over the names of sites. Each site is steered and evaluated separately.
        part: Only sites of this part: encoder, decoder or cross-attention.
        method: "mean" (difference of means), "pca" (of differences between examples with the same text) or "probe"
            (logistic regression).
        unit_length: Scale vectors to length 1.
        coefficients: The factors by which vectors are multiplied, each evaluated; 0 is left out.
        controls: The number of random vectors of the same length to evaluate at each site.
        loader: Batches the data; None uses the default.

    Returns:
        The vectors, the metrics at each setting, and the chosen setting.

    Raises:
        InputError: An argument is wrong, a group has no examples, or no vector can be fitted.
    """
    plan = plan_steering(
        loaded.model, splits, group_by=group_by, groups=groups, sites=sites, part=part, method=method,
        coefficients=coefficients, controls=controls,
    )  # fmt: skip
    if not isinstance(unit_length, bool):
        raise InputError(f"unit_length must be true or false, got {unit_length!r}.")
    loader = as_loader(loader)
    model, task = loaded.model, loaded.model.task
    away, toward = plan.groups
    log.info(
        "Fitting from %s (%d %ss) to %s (%d).",
        away, len(plan.training[0]), task.example_name, toward, len(plan.training[1]),
    )  # fmt: skip
    vectors = fit_vectors(model, plan.sites, plan.training, method, loader)
    if unit_length:
        vectors = vectors.unit()
    with normalising([model], [example for part in plan.test.values() for example in part]):
        points, unmodified = _evaluate(model, plan, vectors, controls, loader)
        chosen = _choose(model, vectors, plan, loader) if plan.validation else None
    return SteeringResult(
        loaded.fingerprint,
        {site.name: vectors.steer(site) for site in vectors.sites},
        {"group_by": group_by, "from": away, "to": toward, "method": vectors.method, "counts": list(vectors.counts)},
        tuple(task.metrics),
        task.example_name,
        unmodified,
        points,
        chosen,
        len(plan.validation),
    )


@dataclass(frozen=True)
class SteeringPlan:
    """The checked arguments of `steer`: two groups, their training and test examples, sites and coefficients."""

    groups: tuple[str, str]
    training: tuple[Sequence[Example], Sequence[Example]]
    test: Mapping[str, Sequence[Example]]
    validation: Sequence[Example]
    sites: Sequence[Site]
    coefficients: Sequence[float]


def plan_steering(
    model: Model,
    splits: Splits,
    *,
    group_by: str,
    groups: Sequence[str] | str | None,
    sites: str | Sequence[str],
    part: Part | None,
    method: str,
    coefficients: float | Sequence[float],
    controls: int,
) -> SteeringPlan:
    """Check the arguments before anything is computed. They are those of `steer` with the same names.

    Raises:
        InputError: As `steer`.
    """
    if method not in get_args(Method):
        raise InputError(f"method must be one of {', '.join(get_args(Method))}; got {method!r}.")
    training = (*splits.train, *splits.source_train)
    away, toward = two_groups(training, group_by, groups)
    fitted = _of_group(training, group_by, away), _of_group(training, group_by, toward)
    test = {name: _of_group((*splits.test, *splits.source_test), group_by, name) for name in (away, toward)}
    for name, examples in test.items():
        if not examples:
            raise InputError(f"groups: there are no test examples of {name}. Both groups need some in data.test.")
    try:
        chosen = choose_sites(model.sites, sites, part)
    except ValueError as error:
        raise InputError(f"sites: {error}") from None
    numbers = _check_coefficients(coefficients)
    if not isinstance(controls, int) or isinstance(controls, bool) or controls < 0:
        raise InputError(f"controls must be a number of random vectors at each site, 0 or more, got {controls!r}.")
    if method == "pca":
        check_pairs(*fitted)
    return SteeringPlan((away, toward), fitted, test, _of_group(splits.validation, group_by, away), chosen, numbers)


def _of_group(examples: Sequence[Example], group_by: str, group: str) -> tuple[Example, ...]:
    return tuple(example for example in examples if example.group(group_by) == group)


def _check_coefficients(coefficients: Any) -> list[float]:
    numbers = list(coefficients) if isinstance(coefficients, (list, tuple)) else [coefficients]
    if not all(isinstance(number, (int, float)) and isfinite(number) for number in numbers):
        raise InputError(f"coefficients must be a number or a list of numbers, got {coefficients}.")
    checked = [float(number) for number in dict.fromkeys(numbers) if number != 0]
    if not checked:
        raise InputError("coefficients must have at least one that is not 0: at 0 the model is unmodified.")
    return checked


def _evaluate(
    model: Model, plan: SteeringPlan, vectors: SteeringVectors, controls: int, loader: Loader
) -> tuple[list[SweepPoint], dict[str, dict[str, Any]]]:
    unmodified = {}
    for name, examples in plan.test.items():
        texts = decode_examples(model, model.task, examples, loader, name)
        unmodified[name] = model.task.score(examples, texts)
        log.info("  %s, unmodified: %s", name, unmodified[name])
    random = {f"{CONTROL}{seed}": vectors.random(seed) for seed in range(controls)}
    points = []
    for site in vectors.sites:
        for ending, used in ({"": vectors} | random).items():
            for coefficient in plan.coefficients:
                intervention = used.steer(site, coefficient)
                for name, examples in plan.test.items():
                    point, _ = measure(
                        model, [intervention], examples, unmodified[name], loader, site.name, f"{name}{ending}",
                        coefficient, control=bool(ending),
                    )  # fmt: skip
                    points.append(point)
        _log_best(site, points, plan.groups[0], model.task.metrics[0])
    return points, {name: scores.as_dict() for name, scores in unmodified.items()}


def _choose(model: Model, vectors: SteeringVectors, plan: SteeringPlan, loader: Loader) -> Setting:
    metric = model.task.metrics[0]
    sign = 1 if metric.higher else -1

    def score(what: str) -> float:
        texts = decode_examples(model, model.task, plan.validation, loader, what)
        return sign * model.task.score(plan.validation, texts).values()[metric.key]

    unmodified, found = score("validation"), {}
    for site, coefficient in _settings(vectors, plan):
        with intervene(model, vectors.steer(site, coefficient)):
            found[site, coefficient] = score(f"validation {coefficient:g}")
    site, coefficient = max(found, key=lambda setting: found[setting])
    return Setting(site.name, coefficient, found[site, coefficient] > unmodified)


def _settings(vectors: SteeringVectors, plan: SteeringPlan) -> Iterator[tuple[Site, float]]:
    for site in vectors.sites:
        for coefficient in plan.coefficients:
            yield site, coefficient


def _log_best(site: Site, points: Sequence[SweepPoint], group: str, metric: Metric) -> None:
    here = [point for point in points if point.chart == site.name and point.line == group]
    best = (max if metric.higher else min)(here, key=lambda point: point.quality[metric.key])
    value = metric.scale * best.quality[metric.key]
    log.info("  %-40s best %s of %s %.1f, at coefficient %g", site.name, metric.label, group, value, best.value)
