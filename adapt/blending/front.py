"""The front between gain and forgetting: the quality on target and source of each blend that was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adapt.formatting import amount
from adapt.metrics import Metric

Kind = Literal["single", "layers", "random"]


@dataclass(frozen=True)
class Point:
    """One blend, measured on validation data.

    Attributes:
        kind: "single" for one factor, "layers" for a factor per layer that was searched for, "random" for a control:
            the same factors, randomly assigned to the layers.
        factor: The factor; the mean over the changed layers if they differ.
        layers: The factor of each changed layer, from input to output.
        values: The metrics by set ("target", "source"), as fractions or in points.
        intervals: The 95 % interval of the main metric, by set.
        changes: The 95 % interval of the main metric's change from the base, paired by example, by set.
        losses: The mean loss, by set.
    """

    kind: Kind
    factor: float
    layers: dict[str, float]
    values: dict[str, dict[str, float]]
    intervals: dict[str, tuple[float, float]]
    changes: dict[str, tuple[float, float]]
    losses: dict[str, float]


@dataclass(frozen=True)
class Front:
    """All blends that were measured, and the chosen one.

    Attributes:
        metric: The main metric of the task.
        points: The blends. The single factors come first, from 0 (the base) to 1 (the adapted model).
        chosen: The position of the chosen one in `points`.
        reason: A sentence on why it was chosen.
        data: A sentence on the data, and what can be concluded from them.
        examples: The number of examples by set.
        gains: What a small step towards the adapted model changes in the loss of the target, by layer.
        costs: The same for the source.
    """

    metric: Metric
    points: list[Point]
    chosen: int
    reason: str
    data: str
    examples: dict[str, int]
    gains: dict[str, float]
    costs: dict[str, float]

    @property
    def point(self) -> Point:
        """The chosen blend."""
        return self.points[self.chosen]

    @property
    def summary(self) -> str:
        """One sentence: the chosen factor, and the metric on the validation data before and after."""
        values = {name: self.shown(name) for name in self.point.values}
        return f"{described(self.point)}: {'; '.join(f'{name} {text}' for name, text in values.items())}."

    def shown(self, name: str) -> str:
        """Return the main metric of a set: at the base, fully adapted, and blended if that is another model."""
        ends = [one for one in self.points if one.kind == "single"]
        base, full, chosen = (one.values[name][self.metric.key] for one in (ends[0], ends[-1], self.point))
        text = f"{self.metric.label} {amount(base, self.metric)}, adapted {amount(full, self.metric)}"
        return text if self.point is ends[-1] else f"{text}, blended {amount(chosen, self.metric)}"

    def figures(self) -> dict[str, Any]:
        """Return the numbers for `metrics.json`."""
        return {
            "kind": self.point.kind, "factor": self.point.factor, "layers": self.point.layers, "chosen": self.chosen,
            "reason": self.reason, "data": self.data, "examples": self.examples, "gains": self.gains,
            "costs": self.costs, "front": [_row(point) for point in self.points],
        }  # fmt: skip


def described(point: Point) -> str:
    """Return a blend in words: `Factor 0.8`, or `Factors 0.35 to 1 by layer (mean 0.81)`."""
    if point.kind == "single":
        return f"Factor {point.factor:.3g}"
    low, high = min(point.layers.values()), max(point.layers.values())
    drawn = ", randomly assigned" if point.kind == "random" else ""
    return f"Factors {low:.2g} to {high:.2g} by layer (mean {point.factor:.2g}){drawn}"


def _row(point: Point) -> Mapping[str, Any]:
    sets = {
        name: {**values, "interval": point.intervals[name], "change": point.changes[name], "loss": point.losses[name]}
        for name, values in point.values.items()
    }
    return {"kind": point.kind, "factor": point.factor, "layers": point.layers, **sets}
