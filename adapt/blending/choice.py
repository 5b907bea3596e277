"""Choose a blend: the least forgetting that keeps the gain, or the most gain within a budget of forgetting."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


def check_factor(name: str, value: Any) -> None:
    """Raise InputError unless a factor is a number from 0 (the base) to 1 (the adapted model)."""
    if not is_number(value) or not 0 <= value <= 1:
        raise InputError(f"{name} must be a number from 0 (the base) to 1 (the adapted model); got {value!r}.")


def check_blend(blend: Any, forget: float | str | None) -> "tuple[Any, Budget | None]":
    """Check the options `blend` and `forget` of training.

    Args:
        blend: "auto", "off" or False, or the factor from 0 (the base) to 1 (what was trained).
        forget: What `Budget.of` reads.

    Returns:
        The blend, "off" for False; and the budget.

    Raises:
        InputError: an option is none of these, or `forget` is given without a search that could keep it.
    """
    how = "off" if blend is False else blend  # YAML reads a bare off as False
    if how not in ("auto", "off"):
        if not is_number(how):
            raise InputError(f"blend must be auto, off, or a factor from 0 to 1 such as 0.8; got {blend!r}.")
        check_factor("blend", how)
    budget = Budget.of(forget)
    if budget is not None and how != "auto":
        raise InputError(f"forget={forget} is kept by the search for a blend: give blend=auto, not blend={how}.")
    return how, budget


def choose(measured: Sequence[Measured], metric: Metric, budget: Budget | None = None) -> tuple[int, str]:
    """Return the position of the chosen blend, and a sentence that says why. Controls are not chosen.

    Without a budget, it is the blend with the least forgetting among those that keep `KEPT` of the largest gain: their
    paired 95 % interval includes that share, and they keep it of the gain in loss, which is less noisy. With a budget,
    it is the blend with the largest gain whose forgetting is within the budget by the upper end of its paired 95 %
    interval; the base always is. A factor per layer was fitted to the same data, so it must be better than the best
    single factor beyond its paired 95 % interval: in forgetting, or with a budget in gain.

    Args:
        measured: The blends; the first is the base, and the last of the single factors is the adapted model.
        metric: The main metric.
        budget: How much worse the source may become.
    """
    options = [number for number, one in enumerate(measured) if one.point.kind == "single"]
    layers = [number for number, one in enumerate(measured) if one.point.kind == "layers"]
    if budget is None:
        chosen, kept, reason = _keeping(measured, options)
        allowed, what = [number for number in layers if kept is not None and _keeps(measured, number, kept)], "source"
    else:
        chosen, reason = _within(measured, options, metric, budget)
        allowed, what = [number for number in layers if within_budget(measured, number, metric, budget)], "target"
    clear = [number for number in allowed if _upper(_difference(measured, number, chosen, what)) < 0]
    if clear:
        chosen = min(clear, key=lambda number: measured[number].errors[what])
        effect = "less forgetting" if what == "source" else "a larger gain"
        reason = f"{described(measured[chosen].point)}: {effect} than any single factor, beyond the 95 % interval."
    elif layers:
        reason += " A factor per layer was not better beyond its 95 % interval."
    return chosen, reason


def _keeping(measured: Sequence[Measured], options: Sequence[int]) -> tuple[int, "_Kept | None", str]:
    """Return the single factor with the least forgetting that keeps the gain, what is to be kept, and the reason."""
    best = min(options, key=lambda number: (measured[number].errors["target"], -number))
    if best == 0 or _upper(_difference(measured, best, 0, "target")) >= 0:
        reason = (
            "No blend was better than the base on the target beyond the 95 % interval, so the trained weights are kept "
            "as they are. More validation data would tell more."
        )
        return options[-1], None, reason
    lowest = min(measured[number].point.losses["target"] for number in options)
    bound = _Kept(best, (1 - KEPT) * measured[0].point.losses["target"] + KEPT * lowest)
    kept = [number for number in options if number == best or _keeps(measured, number, bound)]
    least = min(kept, key=lambda number: measured[number].errors["source"])
    alike = [number for number in kept if _lower(_difference(measured, number, least, "source")) <= 0]
    chosen = min(alike, key=lambda number: (measured[number].point.losses["source"], number))
    reason = (
        f"{described(measured[chosen].point)}: the least forgetting among the {len(kept)} of {len(options)} "
        f"factors that keep {KEPT * 100:.0f} % of the largest gain on validation data."
    )
    return chosen, bound, reason


@dataclass(frozen=True)
class _Kept:
    """What a blend must keep: the gain of the blend number `best`, and a loss of the target of at most `loss`."""

    best: int
    loss: float


def _keeps(measured: Sequence[Measured], number: int, kept: _Kept) -> bool:
    one, base, best = (measured[place].resamples["target"] for place in (number, 0, kept.best))
    excess = one - (1 - KEPT) * base - KEPT * best
    return _lower(excess) <= 0 and measured[number].point.losses["target"] <= kept.loss


def _within(measured: Sequence[Measured], options: Sequence[int], metric: Metric, budget: Budget) -> tuple[int, str]:
    within = [number for number in options if within_budget(measured, number, metric, budget)]
    chosen = min(within, key=lambda n: (measured[n].errors["target"], measured[n].point.losses["target"]))
    if chosen == 0:
        return 0, (
            f"No factor that gains anything keeps its forgetting within {budget} by its 95 % interval, so the result "
            "is the base. Give more source data for validation, or a larger budget."
        )
    return chosen, (
        f"{described(measured[chosen].point)}: the largest gain among the {len(within) - 1} factors whose forgetting "
        f"is within {budget} by its 95 % interval."
    )


def within_budget(measured: Sequence[Measured], number: int, metric: Metric, budget: Budget) -> bool:
    """Return whether a blend's forgetting is within a budget by its paired 95 % interval; that of the base is."""
    allowed = budget.allowed(measured[0].errors["source"], metric)
    return number == 0 or _upper(_difference(measured, number, 0, "source")) <= allowed


def _difference(measured: Sequence[Measured], one: int, other: int, what: str) -> np.ndarray:
    return measured[one].resamples[what] - measured[other].resamples[what]


def _upper(values: np.ndarray) -> float:
    return float(np.percentile(values, 97.5))


def _lower(values: np.ndarray) -> float:
    return float(np.percentile(values, 2.5))
