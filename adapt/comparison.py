"""Before against after, as plain data: error rates by set and group, transcripts that changed, weights that changed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from adapt.data.loader import Loader
from adapt.data.manifest import Splits, Utterance
from adapt.errors import InputError
from adapt.inference import answers
from adapt.introspect.weights import WeightChange, weight_change
from adapt.metrics import ErrorRates, paired_interval
from adapt.models.checkpoint import Loaded
from adapt.models.labels import tidy
from adapt.models.task import Task, recognition

log = logging.getLogger(__name__)
MOST_CHANGED = 12


@dataclass(frozen=True)
class GroupResult:
    """The utterances of one set ("target" or "source") that share `value` of `key` ("accent", "speaker", ...)."""

    set: str
    key: str
    value: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True)
class SetResult:
    """Error rates on one set; `difference` is the 95 % interval of WER after minus before, utterances paired."""

    before: dict[str, Any]
    after: dict[str, Any]
    difference: tuple[float, float]


@dataclass(frozen=True)
class Word:
    """One place of an alignment: what should stand there, and what does; either may be empty."""

    expected: str
    written: str


@dataclass(frozen=True)
class Transcript:
    """One utterance before and after, aligned with its reference word by word. `better` counts word edits saved."""

    set: str
    audio: str
    reference: str
    better: int
    before: list[Word]
    after: list[Word]


@dataclass(frozen=True)
class Comparison:
    """Everything the report shows, as plain data. Rates are fractions (0.1 is 10 %), times seconds."""

    before_name: str
    after_name: str
    sets: dict[str, SetResult]
    groups: list[GroupResult]
    transcripts: list[Transcript]
    weights: WeightChange | None
    title: str = "Before and after"
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    config: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `comparison.json`."""
        return asdict(self)

    def metrics(self) -> dict[str, Any]:
        """The figures of it, for `metrics.json`: `target.before.wer`, `weights.changed`, ..."""
        values: dict[str, Any] = {name: asdict(result) for name, result in self.sets.items()}
        if self.weights is not None:
            names = ("total", "trained", "changed", "buffers_changed")
            values["weights"] = {name: getattr(self.weights, name) for name in names}
        return values | {"seconds": self.seconds, "skipped": self.skipped, "history": self.history}


def compare_answers(
    sets: Mapping[str, Sequence[Utterance]],
    before: Mapping[str, Sequence[str]],
    after: Mapping[str, Sequence[str]],
    task: Task = recognition,
    group_by: Sequence[str] = ("accent", "speaker"),
) -> tuple[dict[str, SetResult], list[GroupResult], list[Transcript]]:
    """Judge two models' answers to the same utterances: per set, per group, and the transcripts that changed most."""
    results, groups, transcripts = {}, [], []
    for name, utterances in sets.items():
        references = [utterance.text for utterance in utterances]
        old, new = task.judge(references, before[name]), task.judge(references, after[name])
        results[name] = SetResult(old.as_dict(), new.as_dict(), paired_interval(old, new))
        for key in group_by:
            groups += [
                GroupResult(name, key, value, old[chosen].as_dict(), new[chosen].as_dict())
                for value, chosen in by_group(utterances, key).items()
            ]
        transcripts += _most_changed(name, utterances, before[name], after[name], old, new)
    return results, groups, transcripts


def by_group(utterances: Sequence[Utterance], key: str) -> dict[str, np.ndarray]:
    """Which utterances share a value of `key`: index arrays, by value in sorted order."""
    values = [utterance.group(key) for utterance in utterances]
    return {value: np.array([i for i, own in enumerate(values) if own == value]) for value in sorted(set(values))}


def align(reference: str, answer: str) -> list[Word]:
    """Align two texts word by word with the fewest edits; the places that differ are as many as the WER's numerator."""
    import jiwer

    words = jiwer.process_words(tidy(reference), tidy(answer))
    expected, written = words.references[0], words.hypotheses[0]
    places = []
    for chunk in words.alignments[0]:
        left = expected[chunk.ref_start_idx : chunk.ref_end_idx]
        right = written[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for number in range(max(len(left), len(right))):
            places.append(Word(left[number] if left else "", right[number] if right else ""))
    return places


def _most_changed(
    name: str,
    utterances: Sequence[Utterance],
    before: Sequence[str],
    after: Sequence[str],
    old: ErrorRates,
    new: ErrorRates,
) -> list[Transcript]:
    better = old.word_edits - new.word_edits
    # The most improved, and as many of the most damaged: a report that shows only gains would mislead.
    order = np.argsort(-better, kind="stable")
    gained = [int(i) for i in order if better[i] > 0][: MOST_CHANGED // 2]
    lost = [int(i) for i in order[::-1] if better[i] < 0][: MOST_CHANGED // 2]
    return [
        Transcript(
            name, str(utterances[i].audio_filepath), utterances[i].text, int(better[i]),
            align(utterances[i].text, before[i]), align(utterances[i].text, after[i]),
        )
        for i in gained + lost
    ]  # fmt: skip


def compare_models(
    before: Loaded, after: Loaded, splits: Splits, loader: Loader, group_by: Sequence[str], **facts: Any
) -> Comparison:
    """Run both models over the target and source test sets, and compare their answers and weights.

    Raises:
        InputError: there is nothing to compare them on.
    """
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
    return compare_texts(before, after, sets, texts["before"], texts["after"], group_by, **facts)


def compare_texts(
    before: Loaded,
    after: Loaded,
    sets: Mapping[str, Sequence[Utterance]],
    before_texts: Mapping[str, Sequence[str]],
    after_texts: Mapping[str, Sequence[str]],
    group_by: Sequence[str],
    trained: Sequence[str] = (),
    **facts: Any,
) -> Comparison:
    """The comparison of two models whose answers are there already."""
    results, groups, transcripts = compare_answers(sets, before_texts, after_texts, after.model.task, group_by)
    try:
        weights = weight_change(before.model, after.model, trained)
    except ValueError as error:
        log.warning("The weights cannot be compared: %s", error)
        weights = None
    return Comparison(
        before_name=before.reference, after_name=after.reference, sets=results, groups=groups,
        transcripts=transcripts, weights=weights, **facts,
    )  # fmt: skip
