"""Before against after, as plain data: quality by set and group, transcripts that changed, weights that changed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.inference import answers
from adapt.introspect.causes import Causes, find_causes
from adapt.introspect.inside import Inside, look_inside
from adapt.introspect.order import Order, measure_order
from adapt.introspect.topography.cells import cells_of_model
from adapt.introspect.weights import WeightChange, weight_change
from adapt.metrics import Metric, paired_intervals, word_edits
from adapt.models.checkpoint import Loaded
from adapt.models.task import Task, recognition
from adapt.recordings import Recording, recordings
from adapt.words import Word, WordChanges, align, word_changes

log = logging.getLogger(__name__)
MOST_CHANGED = 12


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
class Transcript:
    """One example before and after, aligned with its reference word by word. `better` counts word edits saved.

    `name` is its audio file or its id, `source` the text that was translated, `number` its place in the set.
    """

    set: str
    name: str
    reference: str
    better: int
    before: list[Word]
    after: list[Word]
    source: str = ""
    number: int = 0


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
    noun: str = recognition.noun
    title: str = "Before and after"
    words: dict[str, WordChanges] = field(default_factory=dict)
    recordings: dict[int, Recording] = field(default_factory=dict)
    inside: Inside | None = None
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


def compare_answers(
    sets: Mapping[str, Sequence[Example]],
    before: Mapping[str, Sequence[str]],
    after: Mapping[str, Sequence[str]],
    task: Task = recognition,
    group_by: Sequence[str] = ("accent", "speaker"),
) -> tuple[dict[str, SetResult], list[GroupResult], list[Transcript]]:
    """Judge two models' answers to the same examples: per set, per group, and the transcripts that changed most."""
    results, groups, transcripts = {}, [], []
    for name, examples in sets.items():
        references = [example.text for example in examples]
        old, new = task.judge(references, before[name]), task.judge(references, after[name])
        results[name] = SetResult(old.as_dict(), new.as_dict(), paired_intervals(old, new))
        for key in group_by:
            groups += [
                GroupResult(name, key, value, old[chosen].as_dict(), new[chosen].as_dict())
                for value, chosen in by_group(examples, key).items()
            ]
        transcripts += _most_changed(name, examples, before[name], after[name], task)
    return results, groups, transcripts


def by_group(examples: Sequence[Example], key: str) -> dict[str, np.ndarray]:
    """Which examples share a value of `key`: index arrays, by value in sorted order."""
    values = [example.group(key) for example in examples]
    return {value: np.array([i for i, own in enumerate(values) if own == value]) for value in sorted(set(values))}


def _most_changed(
    name: str, examples: Sequence[Example], before: Sequence[str], after: Sequence[str], task: Task
) -> list[Transcript]:
    said = [task.tidy(example.text) for example in examples]
    before, after = [task.tidy(text) for text in before], [task.tidy(text) for text in after]
    better = word_edits(said, before) - word_edits(said, after)
    # The most improved, and as many of the most damaged: a report that shows only gains would mislead.
    order = np.argsort(-better, kind="stable")
    gained = [int(i) for i in order if better[i] > 0][: MOST_CHANGED // 2]
    lost = [int(i) for i in order[::-1] if better[i] < 0][: MOST_CHANGED // 2]
    return [
        Transcript(
            name, examples[i].name, examples[i].text, int(better[i]),
            align(said[i], before[i]), align(said[i], after[i]),
            examples[i].source if isinstance(examples[i], Pair) else "", i,
        )
        for i in gained + lost
    ]  # fmt: skip


def compare_models(
    before: Loaded, after: Loaded, splits: Splits, loader: Loader, group_by: Sequence[str], **facts: Any
) -> Comparison:
    """Run both models over the target and source test sets, and compare; `facts` as in `compare_texts`.

    Raises:
        InputError: there is nothing to compare them on, or one recognises speech and the other translates.
    """
    if before.model.task.metrics != after.model.task.metrics:
        raise InputError(
            f"'{before.reference}' is judged by {before.model.task.metrics[0].label} and '{after.reference}' by "
            f"{after.model.task.metrics[0].label}: they do different things, and cannot be compared."
        )
    sets = {name: part for name, part in (("target", splits.test), ("source", splits.source_test)) if part}
    if not sets:
        raise InputError("There is nothing to compare the models on: give data.test=... or data.source_test=...")
    texts = {
        when: {
            name: answers(loaded.model, loaded.model.task, part, loader, f"{name} {when}")
            for name, part in sets.items()
        }
        for when, loaded in (("before", before), ("after", after))
    }
    return compare_texts(before, after, sets, texts["before"], texts["after"], loader, group_by, **facts)


def compare_texts(
    before: Loaded,
    after: Loaded,
    sets: Mapping[str, Sequence[Example]],
    before_texts: Mapping[str, Sequence[str]],
    after_texts: Mapping[str, Sequence[str]],
    loader: Loader,
    group_by: Sequence[str],
    trained: Sequence[str] = (),
    rows: Mapping[str, int] | None = None,
    factors: Mapping[str, int] | None = None,
    causes: int = 0,
    inside: int = 0,
    players: int = 0,
    **facts: Any,
) -> Comparison:
    """The comparison of two models whose answers are there already; what was trained as in `weight_change`.

    `causes` is the number of examples of each set on which the causes are measured (`find_causes`), and `inside` of
    those that show what the neurons do (`look_inside`); `players` of all transcripts' recordings that are kept; 0: not
    at all. Where the header of `after` says that it was laid out on grids, their order is measured (`measure_order`).
    Where one of them fails, the comparison is without it: what was trained and measured before is not to be lost for
    that.
    """
    check_counts(causes=causes, inside=inside, players=players)
    results, groups, transcripts = compare_answers(sets, before_texts, after_texts, after.model.task, group_by)
    try:
        weights = weight_change(before.model, after.model, trained, rows, factors)
    except ValueError as error:
        log.warning("The weights cannot be compared: %s", error)
        weights = None
    words = {
        name: word_changes([example.text for example in found], before_texts[name], after_texts[name], after.model.task)
        for name, found in sets.items()
    }
    rate = getattr(after.model.reader, "sample_rate", 0)  # what reads text has none
    heard = tried("players", recordings, transcripts, sets, rate, players) if players and rate else None
    cells = cells_of_model(after.header, after.reference)
    models, changed = (before.model, after.model), weights is not None and weights.changed > 0
    neurons = tried("inside", look_inside, *models, sets, loader, inside, cells) if inside and changed else None
    found = tried("causes", find_causes, *models, sets, loader, causes) if causes and changed else None
    shown = [example for examples in sets.values() for example in examples]
    order = tried("order", measure_order, *models, cells, shown, loader) if cells else None
    return Comparison(
        before_name=before.reference, after_name=after.reference, sets=results, groups=groups,
        transcripts=transcripts, words=words, recordings=heard or {}, weights=weights, inside=neurons, order=order,
        causes=found,
        metrics=after.model.task.metrics, noun=after.model.task.noun, **facts,
    )  # fmt: skip


def check_counts(**counts: Any) -> None:
    """Raise InputError for what is no number of something; a command asks before it does anything that takes long."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise InputError(f"{name} is a whole number, 0 or more; got {count!r}.")


def tried(name: str, measure: Callable[..., Any], *arguments: Any) -> Any:
    """What `measure` returns; None, and a line in the log, where it fails after all that took long is done."""
    try:
        return measure(*arguments)
    except (InputError, ValueError) as error:
        log.warning("The report is without %s: %s", name, error)
    except Exception:
        without = "" if name == "order" else f" ({name}=0 leaves it out)"
        log.exception("The report is without %s, which failed%s. All else is there.", name, without)
    return None
