"""Extrapolate a learning curve: how much would more data give, with what certainty, and how well has that worked here?

A power law with a floor (`adapt.planning.power_law`) is fitted to the errors of all points. The interval is a bootstrap
over the test examples and over the orders of the data: each resample draws both, and the law is fitted again. It does
not cover that the curve might not follow the law. Therefore the same is tried on the curve itself: the law is fitted to
the subsets of at most half of the data, and should predict what all the data gave.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from adapt.checks import check_number
from adapt.errors import InputError
from adapt.formatting import amount, points_range
from adapt.metrics import Metric
from adapt.planning.curve import LearningCurve
from adapt.planning.power_law import PowerLaw, fit_power_law

RESAMPLES = 300
FARTHEST = 3.0  # a forecast for more than this times the data is not supported by the curve
_FEWEST = 3  # different sizes that a law with a floor needs


@dataclass(frozen=True)
class Check:
    """The law fitted to at most half of the data, and tested on all of it. Values are of the metric.

    `predicted_interval` is the prediction's 95 % interval; `hit` tells whether the measured value is within it.
    """

    fitted_up_to: float
    size: float
    predicted: float
    predicted_interval: tuple[float, float]
    measured: float

    @property
    def error(self) -> float:
        """Predicted minus measured."""
        return self.predicted - self.measured

    @property
    def hit(self) -> bool:
        """Whether the measured value is within the prediction's interval."""
        low, high = self.predicted_interval
        return low <= self.measured <= high


@dataclass(frozen=True)
class Forecast:
    """What more data would give. Values are of the metric, such as a WER of 0.2.

    Attributes:
        metric: The metric.
        unit: "minutes" or "sentences".
        size: The size of all the data.
        more: How much data would be added.
        now: The fitted value with all the data; `later` with `more` besides. Each has a 95 % interval.
        change: Later minus now, with its 95 % interval.
        law: The law of the errors.
        check: The test of the method on this curve; None if there are too few sizes.
        problems: Why the curve does not allow a statement; empty if it does.
    """

    metric: Metric
    unit: str
    size: float
    more: float
    now: float
    now_interval: tuple[float, float]
    later: float
    later_interval: tuple[float, float]
    change: float
    change_interval: tuple[float, float]
    law: PowerLaw
    check: Check | None
    problems: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The forecast in a sentence, or why there is none."""
        return _sentence(self)

    def value_at(self, size: float) -> float:
        """Return the law's value of the metric with `size` of data."""
        return _value(self.law(size), self.metric)

    def figures(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`."""
        one = self.check
        check = None if one is None else asdict(one) | {"error": one.error, "hit": one.hit}
        return asdict(self) | {"metric": self.metric.key, "check": check, "sentence": self.sentence}


def forecast(curve: LearningCurve, more: float, resamples: int = RESAMPLES, seed: int = 0) -> Forecast:
    """Return how much `more` data would give, by the learning curve.

    Args:
        curve: The learning curve.
        more: How much data would be added, in the curve's unit, above 0.
        resamples: The number of bootstrap resamples.
        seed: The seed of the bootstrap.

    Returns:
        The forecast with its intervals, its check, and `problems` where the curve does not allow a statement.

    Raises:
        InputError: `more` is not a number above 0.
    """
    check_number("more", more, 0)
    if more <= 0:
        raise InputError(f"more must be above 0, got {more}.")
    samples = _resampled(curve, resamples, seed)
    whole = _Sample(range(len(curve.points)), np.array([point.value for point in curve.points]))
    law, now, later = _predict(curve, whole, more)
    drawn = np.array([_predict(curve, sample, more)[1:] for sample in samples])
    check = _check(curve, whole, samples)
    change_interval = _interval(drawn[:, 1] - drawn[:, 0])
    problems = _problems(curve, more, later - now, change_interval, check)
    return Forecast(
        curve.metric, curve.unit, curve.size, more, now, _interval(drawn[:, 0]), later, _interval(drawn[:, 1]),
        later - now, change_interval, law, check, problems,
    )  # fmt: skip


@dataclass(frozen=True)
class _Sample:
    """Points of the curve, by number, and the value of each; a resample may have a point more than once."""

    points: Sequence[int]
    values: np.ndarray


def _resampled(curve: LearningCurve, resamples: int, seed: int) -> list[_Sample]:
    draw = np.random.default_rng(seed)
    statistics = np.stack([scores.statistics[0] for scores in curve.scores])  # (points, examples, numbers)
    formula = curve.scores[0].formulas[0]
    by_order = [[n for n, p in enumerate(curve.points) if p.order == order] for order in range(curve.orders)]
    samples = []
    for _ in range(resamples):
        examples = draw.integers(0, statistics.shape[1], statistics.shape[1])
        points = [number for order in draw.integers(0, curve.orders, curve.orders) for number in by_order[order]]
        values = np.asarray(formula(statistics[:, examples].sum(1)), dtype=float)
        samples.append(_Sample(points, values[points]))
    return samples


def _predict(curve: LearningCurve, sample: _Sample, more: float) -> tuple[PowerLaw, float, float]:
    law = _fit(curve, sample)
    return law, _value(law(curve.size), curve.metric), _value(law(curve.size + more), curve.metric)


def _fit(curve: LearningCurve, sample: _Sample, largest_share: float = 1.0) -> PowerLaw:
    used = [
        (curve.points[number].size, _error(value, curve.metric))
        for number, value in zip(sample.points, sample.values, strict=True)
        if curve.points[number].share <= largest_share
    ]
    return fit_power_law([size for size, _ in used], [error for _, error in used])


def _error(value: float, metric: Metric) -> float:
    """Return a metric as an error, which falls to 0: a WER itself, and 100 minus a BLEU."""
    return (1.0 if metric.percent else 100.0) - value if metric.higher else value


def _value(error: float, metric: Metric) -> float:
    return _error(error, metric)  # its own inverse


def _check(curve: LearningCurve, whole: _Sample, samples: Sequence[_Sample]) -> Check | None:
    small = [point for point in curve.points if point.share <= 0.5]
    if len({point.share for point in small}) < 2:
        return None

    def predicted(sample: _Sample) -> float:
        return _value(_fit(curve, sample, 0.5)(curve.size), curve.metric)

    measured = float(np.mean([point.value for point in curve.points if point.share == 1]))
    interval = _interval(np.array([predicted(sample) for sample in samples]))
    return Check(max(point.size for point in small), curve.size, predicted(whole), interval, measured)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _problems(
    curve: LearningCurve, more: float, change: float, interval: tuple[float, float], check: Check | None
) -> tuple[str, ...]:
    problems = []
    sizes = len({point.share for point in curve.points})
    if sizes < _FEWEST:
        problems.append(f"there are only {sizes} sizes, and a law with a floor needs {_FEWEST}")
    if more > (FARTHEST - 1) * curve.size + 1e-9:
        problems.append(f"{_size(curve.size + more, curve.unit)} are more than {FARTHEST:g} times the data")
    low, high = interval
    if not (high < 0 or low > 0):
        problems.append("the interval includes no change")
    by_share = {share: np.mean([p.value for p in curve.points if p.share == share]) for share in _shares(curve)}
    gained = (by_share[1.0] - by_share[min(by_share)]) * (1 if curve.metric.higher else -1)
    if gained <= 0:
        problems.append("all the data did not give more than its smallest part")
    if check is not None and not check.hit and abs(check.error) * 2 > abs(check.measured - by_share[min(by_share)]):
        problems.append("the same extrapolation from half of the data missed what all the data gave")
    return tuple(problems)


def _shares(curve: LearningCurve) -> list[float]:
    return sorted({point.share for point in curve.points})


def _size(size: float, unit: str) -> str:
    return f"{size:.3g} {unit}" if unit == "minutes" else f"{size:,.0f} {unit}"


def usual_more(curve: LearningCurve) -> float:
    """Return how much more data to forecast for: 10 minutes, or as many sentences again."""
    return 10.0 if curve.unit == "minutes" else curve.size


def _sentence(forecast: Forecast) -> str:
    metric, more, low_high = forecast.metric, _size(forecast.more, forecast.unit), forecast.change_interval
    if forecast.problems:
        return (
            f"The learning curve does not tell what {more} more would give: {'; '.join(forecast.problems)}. "
            f"(The fit says {points_range(low_high, metric)} points of {metric.label}.)"
        )
    checked = ""
    if forecast.check is not None:
        one = forecast.check
        checked = (
            f" From {_size(one.fitted_up_to, forecast.unit)}, the same method predicts {amount(one.predicted, metric)} "
            f"for {_size(one.size, forecast.unit)}; measured: {amount(one.measured, metric)}."
        )
    return (
        f"{more} more would bring {metric.label} from {amount(forecast.now, metric)} to about "
        f"{amount(forecast.later, metric)} (change {points_range(low_high, metric)} points, 95 % interval).{checked}"
    )
