"""`tuning=auto`: try the few options that matter on parts of the training data, and choose by paired bounds.

found = search(base, splits, Auto(trials=8), folder)
adapted = fine_tune(base, splits, found.candidate.function, **found.options)

1. Each candidate (full, LoRA, the lower third of the layers, a fifth of the neurons; at the family's rate, three times
   as much, a third) trains for a quarter of the epochs on three quarters of the training data. The rest compares.
2. The two best ones and the family's defaults train for all epochs; so does the best with replay, if there are source
   data. Each is blended with the base at several factors.
3. The first, and so the simplest, that is not clearly worse than the best is chosen (`auto_choice.choose`).
4. Validation data have decided nothing so far. On them, the choice is compared with the defaults.

The same options give the same choice, unless `minutes` bounds the time: then it depends on the machine's speed.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from adapt.blending.source_data import part_off
from adapt.checks import check_count, check_number
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.normalisers import Normalise
from adapt.data.replay import Replay
from adapt.data.splits import OnError, check_splits
from adapt.errors import InputError
from adapt.files import user_path
from adapt.formatting import amount, counted, points
from adapt.models.loaded import Loaded
from adapt.models.task import Task
from adapt.models.writing import choose_normaliser
from adapt.training.adapted import Adapted
from adapt.training.auto_choice import Judged, choose, judged, ranked
from adapt.training.auto_trials import BLENDS, Bench, Candidate, Trial, candidates, divided
from adapt.training.fine_tune import fine_tune

log = logging.getLogger(__name__)

_SHORT = 4  # a short trial has one in so many epochs
_FINALISTS = 2
_REPLAY = 0.5


@dataclass(frozen=True)
class Auto:
    """How much is tried.

    Args:
        minutes: How long trials may take together; None for as long as they need. The family's defaults are always
            tried.
        trials: The largest number of short trials.

    Raises:
        InputError: a value is out of range.
    """

    minutes: float | None = None
    trials: int = 8

    def __post_init__(self) -> None:
        if self.minutes is not None:
            check_number("minutes", self.minutes, above=0)
        check_count("trials", self.trials, 1)


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        candidate: The chosen options.
        blend: The chosen factor between base (0) and adapted model (1); None if it was the user's or source data decide
            at the end of training.
        epochs: The number of epochs of the training that follows.
        rows: What was tried, one row per trial and blend factor, for `metrics.json`.
        lines: The same in words.
        summary: Sentences on what was chosen, and by how much it won.
    """

    candidate: Candidate
    blend: float | None
    epochs: int
    rows: list[dict[str, Any]]
    lines: list[str]
    summary: str

    @property
    def options(self) -> dict[str, Any]:
        """The chosen options as arguments of `fine_tune`, besides the tuning."""
        blend = {} if self.blend is None else {"blend": self.blend}
        chosen = {"epochs": self.epochs, "learning_rate": self.candidate.learning_rate, "replay": self.candidate.replay}
        return chosen | blend

    @property
    def text(self) -> str:
        """The summary, and what was compared with which result."""
        return f"{self.summary} Compared: {'; '.join(self.lines)}."

    def figures(self) -> dict[str, Any]:
        """Return the search for `metrics.json`."""
        return {"chosen": str(self.candidate), "blend": self.blend, "summary": self.summary, "tried": self.rows}


def search(
    base: Loaded,
    splits: Splits,
    auto: Auto,
    folder: Path | str,
    *,
    epochs: int | None = None,
    learning_rate: float | None = None,
    replay: Replay | None = None,
    blend: Any = "auto",
    loader: Loader | None = None,
    seed: int = 0,
    on_error: OnError = "stop",
    trainer: Callable[[int], Any] | None = None,
    normalise: Normalise = "auto",
    **options: Any,
) -> Found:
    """Try options, and choose. Finished trials in `folder` are not repeated.

    Args:
        base: The model to start from.
        splits: `train` is divided into what trials train on and what they are compared on. `source_validation`, or a
            part of `source_train`, says what they forget. `validation` only says how much the choice won.
        auto: How much is tried.
        folder: Where results of trials are stored.
        epochs: The number of epochs of the training that follows; None for the family's own.
        learning_rate: The user's rate, which is then not varied.
        replay: The user's share of replayed examples, which is then not varied; None tries without and with replay.
        blend: "auto" also chooses a factor; anything else is left alone.
        loader: Batches the examples; None for the family's own.
        seed: The seed of the trials.
        on_error: What to do about examples that cannot be used: "stop" or "skip".
        trainer: A function that makes a trainer for a number of epochs; None for the CPU.
        normalise: How texts are normalised before they are compared (`adapt.models.writing.choose_normaliser`).
        options: Further options of `fine_tune`, for all trials.

    Returns:
        The choice, and what was tried.

    Raises:
        InputError: there are too few training examples, or an option is out of range.
    """
    recipe = base.model.recipe
    loader = loader or Loader(speeds=recipe.speeds, batch_tokens=recipe.batch_tokens, seed=seed)
    heard = (*splits.train, *splits.validation, *splits.test, *splits.source_test)
    task = replace(base.model.task, normaliser=choose_normaliser(base.model, heard, normalise))
    options = {**options, "normalise": normalise}
    splits, _ = check_splits(replace(splits, test=(), source_test=()), base.model, on_error, loader.speeds)
    inner, choice = divided(splits)
    parted, _ = part_off(splits, replayed=True)
    sets = {"choice": choice, "source": parted.source_validation, "validation": splits.validation}
    bench = Bench(
        base, replace(parted, train=tuple(inner), validation=(), source_validation=()),
        {name: examples for name, examples in sets.items() if examples}, loader, Path(folder), seed, options, trainer,
    )  # fmt: skip
    epochs = recipe.number_of_epochs(len(splits.train)) if epochs is None else epochs
    first = candidates(base.model, learning_rate, 0.0 if replay is None else replay)[: auto.trials]
    log.info(
        "tuning=auto: %d short trials on %d examples, compared on %d others%s.", len(first), len(inner), len(choice),
        f" and on {len(parted.source_validation)} of the source" if parted.source_validation else "",
    )  # fmt: skip
    return _Search(bench, auto, epochs, blend == "auto", task).run(first, bool(parted.source_train) and replay is None)


def fine_tune_auto(
    base: Loaded, splits: Splits, auto: Auto, *, folder: Path | str | None = None, seed: int = 0, **options: Any
) -> Adapted:
    """Search, and fine-tune with what was found.

    Args:
        base: The model to start from.
        splits: As in `search`.
        auto: How much is tried.
        folder: Where trials and checkpoints are kept; None keeps them only while training.
        seed: The seed of trials and training.
        options: As in `fine_tune`. What is given there is not searched for.

    Raises:
        InputError: as `search` and `fine_tune`.
    """
    searched = {
        name: value
        for name, value in options.items()
        if name not in ("resume", "logger", "trainer", "patience", "monitor")
    }
    for name in ("trainer", "optimizer"):
        if name in options:
            raise InputError(f"{name}= does not go with tunings.auto(): it sets the rate and the epochs of each trial.")
    with TemporaryDirectory() as passing:
        found = search(
            base, splits, auto, Path(passing if folder is None else user_path(folder)) / "search", seed=seed, **searched
        )
        log.info("Training with what was found.")
        return fine_tune(
            base, splits, found.candidate.function, folder=folder, seed=seed, **{**options, **found.options}
        )


@dataclass
class _Search:
    bench: Bench
    auto: Auto
    epochs: int
    blends: bool
    task: Task
    spent: float = 0.0
    count: int = 0
    left_out: int = 0

    def run(self, first: list[Candidate], replays: bool) -> Found:
        self.base = self._trial(None, 0)
        short = max(1, math.ceil(self.epochs / _SHORT))
        tried: list[Judged] = []
        for candidate in first:
            if tried and self._over(self.spent / len(tried), share=0.5):
                self.left_out += 1
                continue
            tried += self._judged(self._trial(candidate, short))
        order = [tried[number].trial for number in ranked(tried)]
        best = [trial.candidate for trial in order if trial.candidate is not None]
        finalists = [first[0], *[one for one in best if one != first[0]][:_FINALISTS]]
        if replays:
            finalists.append(replace(best[0], replay=_REPLAY))
        given = first[0].replay
        finalists.sort(key=lambda one: (one.replay != given, first.index(replace(one, replay=given))))
        cost = self.spent / len(tried) * self.epochs / short
        final: list[Judged] = []
        for candidate in finalists:
            if final and self._over(cost):
                self.left_out += 1
                continue
            final += self._judged(self._trial(candidate, self.epochs, BLENDS if self.blends else (1.0,)))
        final = [one for one in final if one.blend == 1.0] + [one for one in final if one.blend < 1.0]
        return self._found(tried, final, choose(final))

    def _trial(self, candidate: Candidate | None, epochs: int, blends: tuple[float, ...] = (1.0,)) -> Trial:
        trial = self.bench.run(self.count, candidate, epochs, blends)
        self.count, self.spent = self.count + 1, self.spent + trial.seconds
        return trial

    def _judged(self, trial: Trial) -> list[Judged]:
        found = judged(self.task, self.bench.sets, self.base, trial)
        for one in found:
            log.info("  %s", self._line(one))
        return found

    def _over(self, needed: float, share: float = 1.0) -> bool:
        return self.auto.minutes is not None and self.spent + needed > 60 * self.auto.minutes * share

    def _named(self, one: Judged) -> str:
        return f"{one.trial.candidate}{f', blend {one.blend:g}' if one.blend < 1 else ''}"

    def _line(self, one: Judged) -> str:
        metric = self.task.metrics[0]
        source = "" if one.source is None else f", source {amount(one.source, metric)}"
        what = f"{self._named(one)}, {counted(one.trial.epochs, 'epoch')}"
        return f"{what}: {metric.label} {amount(one.target, metric)}{source}"

    def _found(self, tried: list[Judged], final: list[Judged], chosen: int) -> Found:
        one, default = final[chosen], final[0]
        parts = [f"tuning=auto compared {len(tried) + len(final)} options. The best is {self._named(one)}."]
        if chosen == 0:
            parts.append("It is what the family does by default.")
        elif "validation" not in self.bench.sets:
            parts.append("There are no validation data that could say how much it really won.")
        else:
            sentence, worse = self._checked(default, one)
            parts.append(sentence)
            if worse:
                one = default
                parts.append(f"That is clearly worse, so the choice falls back on {self._named(one)}.")
        if self.left_out:
            parts.append(f"The time was over before {self.left_out} more: another machine may choose otherwise.")
        summary = " ".join(parts)
        log.info("%s", summary)
        rows = [_row(each, each is one) for each in (*tried, *final)]
        lines = [self._line(each) for each in (*tried, *final)]
        # With data of the source and of the target, the end of training searches for a blend of the final model.
        again = {"source", "validation"} <= self.bench.sets.keys()
        assert one.trial.candidate is not None
        blend = None if again or not self.blends else one.blend
        return Found(one.trial.candidate, blend, self.epochs, rows, lines, summary)

    def _checked(self, default: Judged, one: Judged) -> tuple[str, bool]:
        """Compare on data that decided nothing: a sentence, and whether the choice is clearly worse."""
        metric, examples = self.task.metrics[0], self.bench.sets["validation"]
        sets = {**self.bench.sets, "choice": examples}
        pair = [judged(self.task, sets, _validated(self.base), _validated(each.trial)) for each in (default, one)]
        before, after = (
            next(own for own in found if own.blend == each.blend)
            for found, each in zip(pair, (default, one), strict=True)
        )
        low, high = np.percentile(after.costs - before.costs, [2.5, 97.5])
        source = "" if one.source is None else ", rises of the source included"
        sentence = (
            f"On {len(examples)} validation examples that decided nothing, {metric.label} is "
            f"{amount(after.target, metric)}, and with the defaults {amount(before.target, metric)} (95 % interval of "
            f"the difference in errors{source}: {points(low, metric)} to {points(high, metric)})."
        )
        return sentence, low > 0


def _validated(trial: Trial) -> Trial:
    """Return a trial with the answers on validation data in place of those for the choice."""
    answers = {name: {**sets, "choice": sets["validation"]} for name, sets in trial.answers.items()}
    return replace(trial, answers=answers)


def _row(one: Judged, chosen: bool) -> dict[str, Any]:
    assert one.trial.candidate is not None
    return {
        "tuning": one.trial.candidate.tuning, "options": dict(one.trial.candidate.options),
        "learning_rate": one.trial.candidate.learning_rate, "replay": one.trial.candidate.replay, "blend": one.blend,
        "epochs": one.trial.epochs, "target": one.target, "source": one.source, "cost": one.cost,
        "seconds": one.trial.seconds, "chosen": chosen,
    }  # fmt: skip
