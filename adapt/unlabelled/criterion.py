"""Judge models without labels: the agreement of what they read, its length, and their errors on the labelled source."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from adapt.blending.choice import Budget
from adapt.comparison.unlabelled import Trial
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.unlabelled.labels import agreement_of
from adapt.unlabelled.lexicon import Lexicon
from adapt.unlabelled.reading import read, similarity

_FORGET = 0.2  # points by which the source may become worse where the user gives no limit
SHORTEST, LONGEST = 0.75, 1.35  # of what the base writes: a model that writes less or more has gone astray


@dataclass(frozen=True)
class Measured:
    """A trial with the agreement of each held-out example, the texts, and what the source lost."""

    trial: Trial
    agreements: list[float]
    texts: list[str]
    cost: float | None = None  # the errors on the source in points, or minus its BLEU
    edits: tuple[float, ...] = ()  # of each source example, in points of the whole; empty for translations


@dataclass(frozen=True)
class Judge:
    """Measures models on held-out examples, always in the same way.

    The agreement of an example is how alike its text is to what the model writes at other speeds (or with dropout, for
    a model that reads text), and, if there is a word list, to the best text of its words: the mean of both.

    Args:
        held_out: Unlabelled examples that are not trained on.
        source: Labelled source examples that are not trained on; may be empty.
        loader: Batches the examples.
        lexicon: For a CTC model: the words of the source, or those that the base writes in the target.
        forget: By how much the error rate on `source` may rise (or its BLEU fall); None: 0.2 points and the standard
            error.
        reverse: For a translation model: a model that translates back.
    """

    held_out: Sequence[Example]
    source: Sequence[Example]
    loader: Loader
    lexicon: Lexicon | None = None
    forget: Budget | None = None
    reverse: Model | None = None

    def measure(self, model: Model, name: str, base: Measured | None = None, labels: int | None = None) -> Measured:
        """Measure a model. `base` is the base's measurement; None for the base itself."""
        readings = read(model, self.held_out, self.loader, self.lexicon)
        texts = [reading.text for reading in readings]
        agreements = agreement_of(model, self.held_out, texts, self.loader, self.reverse)
        if readings and readings[0].words is not None:
            known = [similarity(reading.text, reading.words or "") for reading in readings]
            agreements = [(one + other) / 2 for one, other in zip(agreements, known, strict=True)]
        written = sum(map(len, texts))
        usual = written if base is None else sum(map(len, base.texts))
        confidence = fmean(reading.confidence for reading in readings)
        length = written / usual if usual else float(written > 0)
        source, edits = self._on_source(model)
        cost = None if source is None else -source if model.task.metrics[0].higher else source
        trial = Trial(name, fmean(agreements), confidence, length, source, labels)
        return Measured(trial, agreements, texts, cost, edits)

    def _on_source(self, model: Model) -> tuple[float | None, tuple[float, ...]]:
        if not self.source:
            return None, ()
        texts = decode_examples(model, model.task, self.source, self.loader, "source")
        metric = model.task.metrics[0]
        scores = model.task.score(self.source, texts)
        words = sum(len(model.task.words(example.text)) for example in self.source)
        edits = () if scores.edits is None else tuple((metric.scale * scores.edits.sum(1) / max(words, 1)).tolist())
        return metric.scale * scores.values()[metric.key], edits

    def objection(self, new: Measured, base: Measured) -> str | None:
        """Return why a model must not be used, whatever its agreement; None if nothing is wrong."""
        if not SHORTEST <= new.trial.length <= LONGEST:
            return f"writes {new.trial.length:.2f} times as much as the base"
        return None

    def forgets(self, new: Measured, base: Measured) -> bool:
        """Return whether the error rate on the source rose by more than `forget` allows."""
        if new.cost is None or base.cost is None:
            return False
        if self.forget is not None:
            share = abs(base.cost) / 100 if self.forget.relative else 1.0
            return new.cost - base.cost > self.forget.amount * share + 1e-9
        differences = [after - before for after, before in zip(new.edits, base.edits, strict=True)]
        error = math.sqrt(len(differences)) * stdev(differences) if len(differences) > 1 else 0.0
        return new.cost - base.cost > _FORGET + error + 1e-9


def gain(new: Measured, old: Measured) -> tuple[float, float]:
    """Return by how much a model agrees more than another, and the standard error, paired by example."""
    differences = [after - before for after, before in zip(new.agreements, old.agreements, strict=True)]
    error = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    return fmean(differences), error
