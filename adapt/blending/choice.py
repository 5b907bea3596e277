"""Choose a blend: the least forgetting that keeps the gain, or the most gain within a budget of forgetting."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapt.blending.front import Point, described
from adapt.checks import is_number
from adapt.errors import InputError
from adapt.metrics import Metric

KEPT = 0.95  # the share of the largest gain that a blend must keep


@dataclass(frozen=True, eq=False)
class Measured:
    """A blend with its errors: the main metric, or minus the metric if higher values are better.

    Attributes:
        point: The blend.
        errors: The error by set.
        resamples: The errors of bootstrap resamples `(resamples,)` by set, paired between blends.
    """

    point: Point
    errors: dict[str, float]
    resamples: dict[str, np.ndarray]


@dataclass(frozen=True)
class Budget:
    """How much worse the source may become: in points of the metric, or relative to the base's value."""

    amount: float
    relative: bool = False

    @classmethod
    def of(cls, forget: float | str | None) -> "Budget | None":
        """Read `0.5` (points) or `10%` (relative). Raises InputError for anything else."""
        if forget is None:
            return None
        if is_number(forget) and not isinstance(forget, str) and forget >= 0:
            return cls(float(forget))
        text = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", forget) if isinstance(forget, str) else None
        if text is None:
            raise InputError(
                f"forget must be a number of points, such as 0.5, or a share of the base's errors, such as 10%; got "
                f"{forget!r}."
            )
        return cls(float(text[1]), text[2] == "%")

    def allowed(self, base: float, metric: Metric) -> float:
        """Return the largest allowed increase of the error, in the units of the metric, given the base's value."""
        return self.amount / 100 * abs(base) if self.relative else self.amount / metric.scale

    def __str__(self) -> str:
        return f"{self.amount:g}{' %' if self.relative else ' points'}"


def choose(measured: Sequence[Measured], metric: Metric, budget: Budget | None = None) -> tuple[int, str]:
    """Return the position of the chosen blend, and a sentence that says why. Controls are not chosen.

    Without a budget, it is the blend with the least forgetting among those that keep `KEPT` of the largest gain: their
    paired 95 % interval includes that share, and they keep it of the gain in loss, which is less noisy. With a budget,
    it is the blend with the largest gain whose forgetting is within the budget by the upper end of its paired 95 %
    interval; the base always is.

    Args:
        measured: The blends; the first is the base, and the last of the single factors is the adapted model.
        metric: The main metric.
        budget: How much worse the source may become.
    """
    options = [number for number, one in enumerate(measured) if one.point.kind != "random"]
    if budget is not None:
        return _within(measured, options, metric, budget)
    full = max(number for number in options if measured[number].point.kind == "single")
    best = min(options, key=lambda number: (measured[number].errors["target"], -number))
    base, top = measured[0], measured[best]
    if best == 0 or _upper(top.resamples["target"] - base.resamples["target"]) >= 0:
        return full, (
            "No blend reads the target better than the base by its 95 % interval, so nothing was blended: more "
            "validation data would tell."
        )
    lowest = min(measured[number].point.losses["target"] for number in options)
    kept = [number for number in options if number == best or _keeps(measured[number], base, top, lowest)]
    least = min(kept, key=lambda number: measured[number].errors["source"])
    alike = [number for number in kept if _lower(_difference(measured, number, least)) <= 0]
    chosen = min(alike, key=lambda number: (measured[number].point.losses["source"], number))
    return chosen, (
        f"{described(measured[chosen].point)}: the least forgetting among the {len(kept)} of {len(options)} blends "
        f"that keep {KEPT:.0%} of the largest gain on validation data."
    )


def _keeps(one: Measured, base: Measured, top: Measured, lowest: float) -> bool:
    resampled = [each.resamples["target"] for each in (one, base, top)]
    excess = resampled[0] - (1 - KEPT) * resampled[1] - KEPT * resampled[2]
    gain = base.point.losses["target"] - lowest
    return _lower(excess) <= 0 and base.point.losses["target"] - one.point.losses["target"] >= KEPT * gain


def _within(measured: Sequence[Measured], options: Sequence[int], metric: Metric, budget: Budget) -> tuple[int, str]:
    allowed = budget.allowed(measured[0].errors["source"], metric)
    within = [n for n in options if n == 0 or _upper(_difference(measured, n, 0)) <= allowed]
    chosen = min(within, key=lambda n: (measured[n].errors["target"], measured[n].point.losses["target"]))
    if chosen == 0:
        return 0, (
            f"No blend that gains anything keeps its forgetting within {budget} by its 95 % interval, so the result "
            "is the base. Give more source data for validation, or a larger budget."
        )
    return chosen, (
        f"{described(measured[chosen].point)}: the largest gain among the {len(within) - 1} blends whose forgetting is "
        f"within {budget} by its 95 % interval."
    )


def within_budget(measured: Sequence[Measured], number: int, metric: Metric, budget: Budget) -> bool:
    """Return whether a blend's forgetting is within a budget by its paired 95 % interval; that of the base is."""
    allowed = budget.allowed(measured[0].errors["source"], metric)
    return number == 0 or _upper(_difference(measured, number, 0)) <= allowed


def _difference(measured: Sequence[Measured], one: int, other: int) -> np.ndarray:
    return measured[one].resamples["source"] - measured[other].resamples["source"]


def _upper(values: np.ndarray) -> float:
    return float(np.percentile(values, 97.5))


def _lower(values: np.ndarray) -> float:
    return float(np.percentile(values, 2.5))
