"""Search for a blend on validation data of target and source: one factor first, then a factor per layer.

    front = search(line, {"target": splits.validation, "source": splits.source_validation}, loader)
    model = line.model_at(front.point.layers)

The search for the layers starts from the best single factor. There, gain and forgetting are weighed so that moving all
layers alike neither helps nor hurts: the weight of the source is the ratio of the summed slopes of both losses. A layer
whose change gains more on the target than it costs on the source, at that weight, then moves towards the adapted model;
other layers move towards the base.
"""

import logging
from collections.abc import Mapping, Sequence
from random import Random

from adapt.blending.choice import Budget, Measured, choose, within_budget
from adapt.blending.evaluator import Evaluator, Slopes
from adapt.blending.front import Front, described
from adapt.blending.interpolate import Interpolation
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.subset import evenly
from adapt.errors import InputError
from adapt.formatting import amount
from adapt.metrics import Metric
from adapt.progress import track

log = logging.getLogger(__name__)

FACTORS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # below 0.5, little of the gain is left
FEW_FACTORS = (0.0, 0.5, 0.7, 0.85, 1.0)
EXAMPLES = 200  # of each set
_STEPS, _LONGEST = 4, 0.3  # of the search for the layers: steps, and the largest change of a factor in the first
_BISECTIONS = 3  # to the largest single factor within a budget
_CONTROLS = 3


def search(
    line: Interpolation,
    sets: Mapping[str, Sequence[Example]],
    loader: Loader,
    *,
    budget: Budget | None = None,
    layers: bool = True,
    factors: Sequence[float] = FACTORS,
    examples: int = EXAMPLES,
    data: str = "",
    seed: int = 0,
) -> Front:
    """Measure blends, and choose one (`adapt.blending.choice.choose`).

    Args:
        line: The models between the base and the adapted one.
        sets: Validation examples of "target" and "source"; at most `examples` of each are used, spread evenly.
        loader: Batches the examples.
        budget: How much worse the source may become; None for the least forgetting that keeps the gain.
        layers: Whether to search for a factor per layer too.
        factors: The single factors that are tried, ascending from 0 to 1.
        examples: The number of examples of each set.
        data: A sentence on the data, for the report.
        seed: The seed of the random assignments of factors to layers.

    Raises:
        InputError: a set is empty, or nothing differs between base and adapted model.
    """
    sets = {name: evenly(sets.get(name, ()), examples) for name in ("target", "source")}
    empty = [name for name, own in sets.items() if not own]
    if empty or not line.changed:
        problem = f"there are no validation examples of the {empty[0]}" if empty else "no weight differs from the base"
        raise InputError(f"There is nothing to search a blend on: {problem}.")
    evaluator = Evaluator(line, sets, loader)
    metric = evaluator.model.task.metrics[0]
    measured = [_told(evaluator.measure(factor), metric) for factor in track(factors, "blending")]
    if budget is not None:
        measured = _bisected(evaluator, measured, budget)
    start, _ = choose(measured, metric, budget)
    gains = costs = {}
    if layers and len(line.layers) > 1 and start > 0:
        log.info("  Searching for a factor per layer, from %s.", described(measured[start].point).lower())
        slopes = evaluator.slopes(measured[start].point.factor)
        gains, costs = (slopes[name].layers for name in ("target", "source"))
        measured += [evaluator.measure(each, "layers") for each in _by_layer(evaluator, measured[start], slopes)]
        measured += _controls(evaluator, measured, seed)
    chosen, reason = choose(measured, metric, budget)
    counts = {name: len(own) for name, own in sets.items()}
    return Front(metric, [one.point for one in measured], chosen, reason, data, counts, gains, costs)


def _told(measured: Measured, metric: Metric) -> Measured:
    """Log what was measured, which shows that the search goes on where there is no terminal for a progress bar."""
    shown = (f"{name} {amount(values[metric.key], metric)}" for name, values in measured.point.values.items())
    log.info("  %s: %s %s", described(measured.point), metric.label, ", ".join(shown))
    return measured


def _bisected(evaluator: Evaluator, measured: list[Measured], budget: Budget) -> list[Measured]:
    """Add single factors near the largest one within the budget, and return all in ascending order."""
    metric = evaluator.model.task.metrics[0]
    inside = max(number for number in range(len(measured)) if within_budget(measured, number, metric, budget))
    if inside == len(measured) - 1:
        return measured
    low, high = (measured[number].point.factor for number in (inside, inside + 1))
    for _ in range(_BISECTIONS):
        middle = _told(evaluator.measure((low + high) / 2), metric)
        fits = within_budget([measured[0], middle], 1, metric, budget)
        low, high = (middle.point.factor, high) if fits else (low, middle.point.factor)
        measured = sorted([*measured, middle], key=lambda one: one.point.factor)
    return measured


def _by_layer(evaluator: Evaluator, start: Measured, slopes: Mapping[str, Slopes]) -> list[dict[str, float]]:
    """Return factors per layer: those that were searched for, and the same with all a bit higher."""
    target, source = (slopes[name].layers for name in ("target", "source"))
    if sum(target.values()) >= 0 or sum(source.values()) <= 0:
        return []  # moving all layers towards the base costs no gain, or saves no forgetting: there is nothing to weigh
    weight = -sum(target.values()) / sum(source.values())
    best = factors = dict(start.point.layers)
    lowest, step = _weighed(slopes, weight), _LONGEST
    for _ in range(_STEPS):
        down = {layer: -(slopes["target"].layers[layer] + weight * slopes["source"].layers[layer]) for layer in best}
        largest = max(map(abs, down.values()))
        if largest == 0:
            break
        moved = {layer: best[layer] + step * value / largest for layer, value in down.items()}
        factors = {layer: min(1.0, max(0.0, value)) for layer, value in moved.items()}
        tried = evaluator.slopes(factors)
        if _weighed(tried, weight) < lowest:
            best, slopes, lowest = factors, tried, _weighed(tried, weight)
        else:
            step /= 2
    if best == start.point.layers:
        return []
    return [best, {layer: min(1.0, value + 0.1) for layer, value in best.items()}]


def _weighed(slopes: Mapping[str, Slopes], weight: float) -> float:
    return slopes["target"].loss + weight * slopes["source"].loss


def _controls(evaluator: Evaluator, measured: Sequence[Measured], seed: int) -> list[Measured]:
    """Measure the factors of the best blend by layer, randomly assigned to the layers."""
    found = [one for one in measured if one.point.kind == "layers"]
    if not found:
        return []
    factors, draw = found[0].point.layers, Random(seed)
    return [
        evaluator.measure(dict(zip(factors, draw.sample(list(factors.values()), len(factors)), strict=True)), "random")
        for _ in range(_CONTROLS)
    ]
