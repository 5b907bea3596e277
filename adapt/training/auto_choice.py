"""Choose among trials by paired bounds: the first, and so the simplest, that is not clearly worse than the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapt.data.example import Example
from adapt.metrics import TextScores, main_resamples
from adapt.models.task import Task
from adapt.training.auto_trials import Answers, Trial

_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Judged:
    """A trial at one blend factor, on the examples for the choice.

    Attributes:
        trial: The trial.
        blend: The factor between base (0) and adapted model (1).
        target: The main metric on the examples for the choice.
        source: The main metric on the source; None without source data.
        cost: What is minimised: the error on the target (the metric, or minus it if higher values are better), plus by
            how much the error on the source rose. A point of forgetting weighs as much as a point of gain.
        costs: The cost of each bootstrap resample `(resamples,)`, paired between trials.
        losses: The mean loss of each bootstrap resample, on the same examples, rises of the source's included.
    """

    trial: Trial
    blend: float
    target: float
    source: float | None
    cost: float
    costs: np.ndarray
    losses: np.ndarray


def judged(task: Task, sets: Mapping[str, Sequence[Example]], base: Trial, trial: Trial) -> list[Judged]:
    """Judge a trial at each of its blend factors."""
    sign = -1.0 if task.metrics[0].higher else 1.0
    found = []
    for name, answers in trial.answers.items():
        target = _scores(task, sets["choice"], answers["choice"])
        value = target.values()[task.metrics[0].key]
        cost, costs, source_value = sign * value, sign * main_resamples(target), None
        losses = _mean_losses(answers["choice"])
        if "source" in answers:
            source = _scores(task, sets["source"], answers["source"])
            before = _scores(task, sets["source"], base.answers["0"]["source"])
            source_value = source.values()[task.metrics[0].key]
            rises = sign * (main_resamples(source) - main_resamples(before))
            cost += max(0.0, sign * (source_value - before.values()[task.metrics[0].key]))
            costs = costs + np.maximum(rises, 0.0)
            risen = _mean_losses(answers["source"]) - _mean_losses(base.answers["0"]["source"])
            losses = losses + np.maximum(risen, 0.0)
        found.append(Judged(trial, float(name), value, source_value, cost, costs, losses))
    return found


def choose(found: Sequence[Judged]) -> int:
    """Return the position of the first that is within noise of the best one.

    Within noise means that neither the cost nor the loss, which is less noisy, is higher than that of the best beyond
    the paired 95 % interval. The order of `found` is that of simplicity.
    """
    best = min(range(len(found)), key=lambda number: (found[number].cost, float(found[number].losses.mean()), number))

    def clearly_worse(one: Judged) -> bool:
        pairs = ((one.costs, found[best].costs), (one.losses, found[best].losses))
        return any(float(np.percentile(own - other, 2.5)) > 0 for own, other in pairs)

    return next(number for number, one in enumerate(found) if number == best or not clearly_worse(one))


def ranked(found: Sequence[Judged]) -> list[int]:
    """Return the positions from the lowest cost to the highest; the loss decides between equal costs."""
    return sorted(
        range(len(found)), key=lambda number: (found[number].cost, float(found[number].losses.mean()), number)
    )


def _scores(task: Task, examples: Sequence[Example], answers: Answers) -> TextScores:
    return task.score(examples, answers.texts)


def _mean_losses(answers: Answers) -> np.ndarray:
    losses = np.array(answers.losses)
    picks = np.random.default_rng(0).integers(0, len(losses), (_DRAWS, len(losses)))
    return losses[picks].mean(1)
