"""What is known about an adaptation without labels, as plain data: the models that were tried, and the choice."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Trial:
    """A model that was tried.

    Attributes:
        name: What was done: "base", "normalisation statistics", "entropy", "round 1", "blend 0.7", ...
        agreement: The mean agreement on the held-out examples, from 0 to 1.
        confidence: The mean probability of what the model wrote there, from 0 to 1.
        length: The characters that it wrote there, relative to the base.
        source: The main metric on labelled source examples that were not trained on, in percent or in points; None
            without source data.
        labels: The number of pseudo-labels that it was trained on; None if it was not.
        verdict: Why it was kept or not.
    """

    name: str
    agreement: float
    confidence: float
    length: float
    source: float | None = None
    labels: int | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Unlabelled:
    """How a model was adapted without labels.

    Attributes:
        trials: The models that were tried, in their order; the first is the base.
        chosen: The name of the trial that became the result; "base" if nothing helped.
        held_out: The number of unlabelled examples on which the trials were measured.
        notes: Sentences about what was done, and what the figures say and do not say.
        texts: Some held-out examples: the name, the base's text and the new text.
    """

    trials: list[Trial]
    chosen: str
    held_out: int
    notes: list[str] = field(default_factory=list)
    texts: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def base(self) -> Trial:
        """The base."""
        return self.trials[0]

    @property
    def result(self) -> Trial:
        """The trial that became the result."""
        return next(trial for trial in reversed(self.trials) if trial.name == self.chosen)

    def figures(self) -> dict[str, Any]:
        """Return the figures for `metrics.json`."""
        return {
            "chosen": self.chosen,
            "held_out": self.held_out,
            "before": _figures(self.base),
            "after": _figures(self.result),
            "trials": [{"name": trial.name, **_figures(trial), "verdict": trial.verdict} for trial in self.trials],
        }


def _figures(trial: Trial) -> dict[str, Any]:
    figures = {"agreement": trial.agreement, "confidence": trial.confidence, "length": trial.length}
    optional = {"source": trial.source, "labels": trial.labels}
    return figures | {name: value for name, value in optional.items() if value is not None}
