"""Before against after, as plain data: quality by set and group, transcripts that changed, weights that changed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from adapt.checks import check_counts
from adapt.comparison.causes import find_causes
from adapt.comparison.grids import measure_smoothness
from adapt.comparison.neurons import compare_neurons
from adapt.comparison.recordings import recordings
from adapt.comparison.results import Comparison, GroupResult, SetResult, by_group
from adapt.comparison.words import Transcript, align, word_changes
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.introspect.topography.cells import cells_of_model
from adapt.introspect.weights.change import weight_change
from adapt.metrics import paired_intervals, word_edits
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.task import Task, recognition

log = logging.getLogger(__name__)
MOST_CHANGED = 12


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
        old, new = task.evaluate(references, before[name]), task.evaluate(references, after[name])
        results[name] = SetResult(old.as_dict(), new.as_dict(), paired_intervals(old, new))
        for key in group_by:
            groups += [
                GroupResult(name, key, value, old[chosen].as_dict(), new[chosen].as_dict())
                for value, chosen in by_group(examples, key).items()
            ]
        transcripts += _most_changed(name, examples, before[name], after[name], task)
    return results, groups, transcripts


def _most_changed(
    name: str, examples: Sequence[Example], before: Sequence[str], after: Sequence[str], task: Task
) -> list[Transcript]:
    said = [task.normalise(example.text) for example in examples]
    before, after = [task.normalise(text) for text in before], [task.normalise(text) for text in after]
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
            name: decode_examples(loaded.model, loaded.model.task, part, loader, f"{name} {when}")
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
    those that show what the neurons do (`compare_neurons`); `players` of all transcripts' recordings that are kept; 0: not
    at all. Where the header of `after` says that it was laid out on grids, their order is measured (`measure_smoothness`).
    Where one of them fails, the comparison is without it: what was trained and measured before is not to be lost for
    that.
    """
    check_counts(0, causes=causes, inside=inside, players=players)
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
    rate = after.model.sample_rate
    heard = tried("players", recordings, transcripts, sets, rate, players) if players and rate else None
    cells = cells_of_model(after.header, after.reference)
    models, changed = (before.model, after.model), weights is not None and weights.changed > 0
    neurons = tried("inside", compare_neurons, *models, sets, loader, inside, cells) if inside and changed else None
    found = tried("causes", find_causes, *models, sets, loader, causes) if causes and changed else None
    shown = [example for examples in sets.values() for example in examples]
    order = tried("order", measure_smoothness, *models, cells, shown, loader) if cells else None
    return Comparison(
        before_name=before.reference, after_name=after.reference, sets=results, groups=groups,
        transcripts=transcripts, words=words, recordings=heard or {}, weights=weights, inside=neurons, order=order,
        causes=found,
        metrics=after.model.task.metrics, example_name=after.model.task.example_name, **facts,
    )  # fmt: skip


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
