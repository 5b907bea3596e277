"""What a comparison of two models found, as plain data: quality by set and group, transcripts, weights, neurons, causes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from adapt.comparison.causes import Causes
from adapt.comparison.grids import Order
from adapt.comparison.neurons import NeuronComparison
from adapt.comparison.recordings import Recording
from adapt.comparison.words import Transcript, WordChanges
from adapt.data.example import Example
from adapt.introspect.weights.change import WeightChange
from adapt.metrics import Metric
from adapt.models.task import recognition


@dataclass(frozen=True)
class GroupResult:
    """The examples of one set ("target" or "source") that share `value` of `key` ("accent", "domain", ...)."""

    set: str
    key: str
    value: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True)
class SetResult:
    """The quality on one set; `difference` has each metric's 95 % interval of after minus before, examples paired."""

    before: dict[str, Any]
    after: dict[str, Any]
    difference: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Comparison:
    """Everything the report shows, as plain data. Rates are fractions (0.1 is 10 %), times seconds.

    `metrics` say what the figures are, the one that counts most first; `noun` what one example is called. `words` has
    each set's words, `recordings` those of some transcripts by their place among them. `choice` is a sentence on how
    what trained was chosen.
    """

    before_name: str
    after_name: str
    sets: dict[str, SetResult]
    groups: list[GroupResult]
    transcripts: list[Transcript]
    weights: WeightChange | None
    metrics: tuple[Metric, ...] = recognition.metrics
    example_name: str = recognition.example_name
    title: str = "Before and after"
    words: dict[str, WordChanges] = field(default_factory=dict)
    recordings: dict[int, Recording] = field(default_factory=dict)
    inside: NeuronComparison | None = None
    order: Order | None = None
    causes: Causes | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    config: str = ""
    choice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `comparison.json`; without recordings."""
        plain = asdict(replace(self, inside=None, order=None, recordings={}))
        del plain["recordings"]
        return plain | {name: own and own.as_dict() for name, own in (("inside", self.inside), ("order", self.order))}

    def figures(self) -> dict[str, Any]:
        """The figures of it, for `metrics.json`: `target.before.wer`, `weights.changed`, ..."""
        values: dict[str, Any] = {name: asdict(result) for name, result in self.sets.items()}
        if self.weights is not None:
            names = ("total", "trained", "parameters", "changed", "buffers_changed")
            values["weights"] = {name: getattr(self.weights, name) for name in names}
        values |= signatures(self.metrics)
        values |= {"topographic": self.order.as_dict()} if self.order is not None else {}
        return values | {"seconds": self.seconds, "skipped": self.skipped, "history": self.history}


def signatures(metrics: Sequence[Metric]) -> dict[str, dict[str, str]]:
    """What others need to measure the same, for `metrics.json`; nothing where no metric has a signature."""
    own = {metric.key: metric.signature for metric in metrics if metric.signature}
    return {"signatures": own} if own else {}


def by_group(examples: Sequence[Example], key: str) -> dict[str, np.ndarray]:
    """Which examples share a value of `key`: index arrays, by value in sorted order."""
    values = [example.group(key) for example in examples]
    return {value: np.array([i for i, own in enumerate(values) if own == value]) for value in sorted(set(values))}
