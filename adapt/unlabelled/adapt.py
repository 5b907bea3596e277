"""Adapt without labels: normalisation statistics, entropy, rounds of self-training, and a blend with the base.

Every step makes a candidate. It is kept if the held-out agreement rises; the steps end when it falls. At the end, the
weights are moved back towards the base as far as they keep the gain and the source.
"""

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from adapt.blending.interpolate import Interpolation
from adapt.blending.statistics import recompute_statistics, running_norms
from adapt.comparison.unlabelled import Trial, Unlabelled
from adapt.data.example import Example
from adapt.data.kinds import with_text
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.subset import evenly
from adapt.errors import InputError
from adapt.models.devices import beside
from adapt.models.loaded import Loaded
from adapt.models.model import CTCModel, Model
from adapt.models.state import model_fingerprint
from adapt.training.adapted import Adapted
from adapt.unlabelled.back_translation import back_translated
from adapt.unlabelled.criterion import Judge, Measured, gain
from adapt.unlabelled.entropy import has_norms, minimise, usual
from adapt.unlabelled.labels import label, lexicon_for, own_lexicon
from adapt.unlabelled.lexicon import Lexicon
from adapt.unlabelled.options import WithoutLabels
from adapt.unlabelled.weighted import trusting
from adapt.unlabelled.wording import about, about_data
from interventions.bits import changed_bits

log = logging.getLogger(__name__)

FEWEST = 8  # pseudo-labels; with fewer, a round would learn a few texts by heart
SOURCE_SHARE, MOST_SOURCE = 0.3, 200  # of the source data, what is held out to measure what was forgotten
BLENDS = (0.3, 0.5, 0.7, 0.85, 1.0)
KEEPS = 0.8  # of the gain in agreement, what the blend must keep
OVER_ALL = 0.3  # of the usual learning rate, for one step per batch over all examples
SHOWN = 12  # texts in the report

# Trains a model on splits, writes checkpoints into a folder, and returns the result.
Train = Callable[[Loaded, Splits, Path], Adapted]


@dataclass(frozen=True)
class Data:
    """The parts of the data of an adaptation without labels.

    Attributes:
        train: The unlabelled examples to learn from.
        held_out: The unlabelled examples to judge by.
        replay: Labelled source examples to train on.
        source: Labelled source examples to judge by.
    """

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    replay: tuple[Example, ...]
    source: tuple[Example, ...]


def divide(splits: Splits, held_out: int) -> Data:
    """Divide splits: `validation` and `source_validation` are held out, else parts of the training data.

    Raises InputError if there are too few examples.
    """
    train, validation = splits.train, splits.validation
    if not validation:
        chosen = {id(one) for one in evenly(train, min(held_out, len(train) // 4))}
        validation = tuple(one for one in train if id(one) in chosen)
        train = tuple(one for one in train if id(one) not in chosen)
    if not train or len(validation) < 2:
        raise InputError(
            f"train: there are {len(splits.train)} examples. An adaptation without labels needs at least 8, a quarter "
            "of which is held out to judge by, or validation data."
        )
    if splits.source_validation:
        return Data(train, validation, splits.source_train, splits.source_validation)
    count = min(round(SOURCE_SHARE * len(splits.source_train)), MOST_SOURCE)
    kept = {id(one) for one in evenly(splits.source_train, count)}
    replay = tuple(one for one in splits.source_train if id(one) not in kept)
    return Data(train, validation, replay, tuple(one for one in splits.source_train if id(one) in kept))


def adapt_without_labels(
    base: Loaded,
    splits: Splits,
    train: Train,
    options: WithoutLabels,
    loader: Loader,
    folder: Path,
    observe: Callable[[Model, Trial], None] | None = None,
) -> tuple[Adapted, Unlabelled]:
    """Adapt a copy of a model to unlabelled examples.

    Args:
        base: The model to start from; it is not changed.
        splits: `train` and `validation` are unlabelled: texts that they have are not used. `source_train` is labelled
            data of the source; without it, forgetting cannot be measured.
        train: Trains a model on the pseudo-labels of a round.
        options: What is done.
        loader: Batches the examples.
        folder: Where the rounds keep their checkpoints, from which an interrupted run goes on.
        observe: Called with each model that was tried and its figures.

    Returns:
        The adapted model, which is the base if nothing helped, and what was tried.

    Raises:
        InputError: there are too few examples, or `reverse` does not fit the model.
    """
    started = time.perf_counter()
    _check(base, options)
    steps = _Steps(base, divide(splits, options.held_out), train, options, loader, folder, observe)
    steps.norms()
    steps.entropy()
    steps.rounds()
    model = steps.blend()
    model.eval()
    header = {**model.header(), "base": {"reference": base.reference, "fingerprint": base.fingerprint}}
    trained = tuple(sorted(steps.trained)) if steps.chosen != "base" else ()
    rows, counts = steps.parts(model) if trained else ({}, {})
    loaded = Loaded(model, str(folder), model_fingerprint(model), {**header, "trained": list(trained), **steps.grids})
    notes = [*steps.notes, *about(bool(steps.data.source))]
    result = Unlabelled(steps.trials, steps.chosen, len(steps.data.held_out), notes, steps.texts())
    seconds = time.perf_counter() - started
    return Adapted(base, loaded, trained, rows, (), counts, steps.grids, steps.history, seconds=seconds), result


def _check(base: Loaded, options: WithoutLabels) -> None:
    if options.words and not isinstance(base.model, CTCModel):
        raise InputError(f"words are for CTC models, and '{base.reference}' is not one. Leave them out.")
    if options.reverse is not None and (base.model.reads_audio or options.reverse.model.reads_audio):
        raise InputError("reverse is for translation models: a model that translates back.")


@dataclass
class _Steps:
    """The state of an adaptation: the best model so far, and all that was tried."""

    base: Loaded
    data: Data
    train: Train
    options: WithoutLabels
    loader: Loader
    folder: Path
    observe: Callable[[Model, Trial], None] | None = None
    grids: Mapping[str, Any] = field(default_factory=dict)
    trained: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)  # of these, what trained as a whole, and not by rows or factors
    rows: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    chosen: str = "base"

    def __post_init__(self) -> None:
        known = self.options.words or [example.text for example in self.data.replay]
        self.known = known if isinstance(self.base.model, CTCModel) else []
        reverse = None if self.options.reverse is None else beside(self.options.reverse, self.base.model).model
        self.judge = Judge(
            self.data.held_out, self.data.source, self.loader, self._lexicon(), self.options.budget, reverse
        )
        self.notes += about_data(self.data, self.options, self.known, self.base.model)
        self.first = self.best = self.judge.measure(self.base.model, "base")
        self.final = self.first
        self.grids = {name: self.base.header[name] for name in ("topographic",) if name in self.base.header}
        self.model: Model = self.base.model
        self._record(self.model, self.first, "the model to start from")

    def _lexicon(self) -> Lexicon | None:
        """Return the words to judge by: known ones, else those that the base writes, by their frequency."""
        known = lexicon_for(self.base.model, self.known)
        return own_lexicon(self.base.model, self.data.train, self.loader) if known is None else known

    def norms(self) -> None:
        """Replace the running statistics of batch norms by those of the target."""
        if not self.options.norms:
            return
        if not running_norms(self.base.model):
            self.notes.append(
                "The model has no batch norms, so there are no statistics to adapt; minimising the entropy changes the "
                "weights of its norms instead."
            )
            return
        model = copy.deepcopy(self.model)
        recompute_statistics(model, [with_text(one, "") for one in self.data.train], self.loader)
        self._try(model, "normalisation statistics")

    def entropy(self) -> None:
        """Minimise the entropy over the target, once."""
        if not self.options.entropy:
            return
        if not has_norms(self.model):
            self.notes.append("The model has no norms, so its entropy was not minimised.")
            return
        model = copy.deepcopy(self.model)
        once = replace(usual(model), steps=1, learning_rate=OVER_ALL * usual(model).learning_rate)
        for batch in self.loader.training(self.data.train, model.reader):
            minimise(model, batch.to(next(model.parameters()).device), once)
        self._try(model, "entropy")

    def rounds(self) -> None:
        """Train on pseudo-labels, and label again with the new model, as long as the agreement rises."""
        added = self._back_translated()
        for number in range(1, self.options.rounds + 1):
            first = number == 1 and self.options.test_time and isinstance(self.model, CTCModel)
            test_time = usual(self.model) if first and has_norms(self.model) else None
            reverse = self.judge.reverse
            labelled = label(
                self.model, self.data.train, self.loader, self.options.filters, self.known, test_time, reverse
            )
            found = [*labelled.examples, *added]
            log.info("Round %d: %d pseudo-labels. Left out: %s.", number, len(found), labelled.left_out or "none")
            if len(found) < FEWEST:
                self.notes.append(
                    f"Round {number} did not start, because only {len(found)} pseudo-labels can be trusted."
                )
                return
            adapted = self._round(found, number)
            if not self._try(adapted.loaded.model, f"round {number}", len(found)):
                return
            self.trained |= set(adapted.trained)
            self.whole |= set(adapted.trained) - adapted.rows.keys() - adapted.factor_counts.keys()
            self.rows |= adapted.rows
            self.counts |= adapted.factor_counts
            self.grids = adapted.grids

    def _back_translated(self) -> list[Example]:
        reverse = self.options.reverse
        if reverse is None or not self.options.target_texts:
            return []
        return list(back_translated(reverse.model, self.options.target_texts, self.loader))

    def _round(self, examples: Sequence[Example], number: int) -> Adapted:
        current = Loaded(self.model, self.base.reference, model_fingerprint(self.model), self.base.header)
        splits = Splits(train=tuple(examples), source_train=self.data.replay)
        with trusting(self.model):
            adapted = self.train(current, splits, self.folder / "rounds" / str(number))
        adapted.loaded.model.task = self.model.task
        self.history += [{**row, "epoch": len(self.history) + place} for place, row in enumerate(adapted.history, 1)]
        return adapted

    def blend(self) -> Model:
        """Return the model to keep: between the base and the best one."""
        if self.best is self.first:
            self.notes.append("Nothing raised the agreement, so the result is the base.")
            return copy.deepcopy(self.base.model)
        line = Interpolation(self.base.model, self.model)
        if self.options.blend not in ("auto", "off"):
            factors: Sequence[float] = (float(self.options.blend),)
        else:
            factors = BLENDS if self.options.blend == "auto" else (1.0,)
        tried = [(factor, self._at(line, factor)) for factor in factors]
        allowed = [(factor, one) for factor, one in tried if self._fits(one)]
        if not allowed:
            self.chosen, self.final = "base", self.first
            self.notes.append("No blend raised the agreement within the limit of forgetting: the result is the base.")
            return copy.deepcopy(self.base.model)
        factor, self.final = self._pick(allowed)
        self.chosen = self.final.trial.name
        return line.model_at(factor)

    def _at(self, line: Interpolation, factor: float) -> Measured:
        model = line.model_at(factor)
        measured = self.judge.measure(model, f"blend {factor:g}", self.first)
        forgets = self.judge.forgets(measured, self.first)
        objection = self.judge.objection(measured, self.first)
        self._record(model, measured, objection or ("forgets too much" if forgets else "within the limits"))
        return measured

    def _fits(self, measured: Measured) -> bool:
        rise, error = gain(measured, self.first)
        chosen_by_user = self.options.blend != "auto"
        forgets = not chosen_by_user and self.judge.forgets(measured, self.first)
        return rise > error and not forgets and self.judge.objection(measured, self.first) is None

    def _pick(self, allowed: Sequence[tuple[float, Measured]]) -> tuple[float, Measured]:
        """Return the smallest blend that keeps most of the gain in agreement."""
        top = max(allowed, key=lambda one: one[1].trial.agreement)
        needed = self.first.trial.agreement + KEEPS * (top[1].trial.agreement - self.first.trial.agreement)
        return next(one for one in allowed if one[1].trial.agreement >= needed)

    def _try(self, model: Model, name: str, labels: int | None = None) -> bool:
        """Measure a candidate, and keep it if its agreement is higher. Returns whether it was kept."""
        measured = self.judge.measure(model, name, self.first, labels)
        objection = self.judge.objection(measured, self.first)
        rise, error = gain(measured, self.best)
        kept = objection is None and rise > error
        verdict = "kept" if kept else objection or "not kept: the agreement did not rise beyond its standard error"
        self._record(model, measured, verdict)
        if kept:
            self.model, self.best = model, measured
            if name in ("normalisation statistics", "entropy"):
                self.whole |= _changed(self.base.model, model)
                self.trained |= self.whole
        return kept

    def parts(self, model: Model) -> tuple[dict[str, int], dict[str, int]]:
        """Return the number of rows, and of values in factors, of the parameters that trained by such parts only.

        Each round may choose other rows: all that differ from the base in the result count.
        """
        old, new = dict(self.base.model.named_parameters()), dict(model.named_parameters())
        rows = {
            name: max(count, int(changed_bits(old[name], new[name]).reshape(len(new[name]), -1).any(1).sum()))
            for name, count in self.rows.items()
            if name not in self.whole
        }
        return rows, {name: count for name, count in self.counts.items() if name not in self.whole}

    def _record(self, model: Model, measured: Measured, verdict: str) -> None:
        trial = replace(measured.trial, verdict=verdict)
        self.trials.append(trial)
        if self.observe is not None:
            self.observe(model, trial)
        metric = self.base.model.task.metrics[0]
        source = "" if trial.source is None else f", {metric.label} of the source {trial.source:.1f}"
        figures = f"agreement {trial.agreement:.3f}, confidence {trial.confidence:.3f}{source}"
        log.info("  %s: %s. %s.", trial.name, figures, verdict.capitalize())

    def texts(self) -> list[tuple[str, str, str]]:
        """Return the held-out examples whose texts changed, evenly spaced, with both texts."""
        rows = zip(self.data.held_out, self.first.texts, self.final.texts, strict=True)
        changed = [(example.name, before, after) for example, before, after in rows if before != after]
        return evenly(changed, SHOWN)


def _changed(base: Model, model: Model) -> set[str]:
    before = dict(base.named_parameters())
    return {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
