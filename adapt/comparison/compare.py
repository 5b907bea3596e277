"""Compare two models on test sets: quality, words, weights, neurons and causes."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from adapt.blending.front import Front
from adapt.checks import check_counts
from adapt.comparison.causes import find_causes
from adapt.comparison.facts import RunFacts, run_facts
from adapt.comparison.grids import measure_smoothness
from adapt.comparison.hypotheses import GROUP_BY, score_hypotheses
from adapt.comparison.languages import language_accuracy
from adapt.comparison.matched_pairs import MatchedPairs, matched_pairs
from adapt.comparison.neurons import compare_neurons as compare_all_neurons
from adapt.comparison.non_speech import SOUNDS, NonSpeech, measure_non_speech
from adapt.comparison.recordings import make_audio_clips
from adapt.comparison.results import Comparison, SetResult
from adapt.comparison.words import word_changes
from adapt.data.example import Example
from adapt.data.loader import Loader, as_loader
from adapt.data.manifest import Splits
from adapt.data.names import model_name, set_names
from adapt.data.normalisers import Normalise
from adapt.errors import InputError
from adapt.introspect.topography.cells import cells_of_model
from adapt.introspect.weights.change import WeightChange, weight_change
from adapt.models.loaded import Loaded
from adapt.models.task import Task
from adapt.models.writing import Writing, normalising, writing
from adapt.transcription.any_length import decode_any_length, read_at_once

log = logging.getLogger(__name__)
T = TypeVar("T")


def compare(
    before: Loaded,
    after: Loaded,
    splits: Splits,
    *,
    loader: Loader | None = None,
    group_by: str | Sequence[str] = GROUP_BY,
    causes: int = 40,
    compare_neurons: int = 100,
    audio_clips: int = 6,
    non_speech: int = SOUNDS,
    normalise: Normalise = "auto",
    title: str | None = None,
    skipped: Sequence[str] = (),
    config: str = "",
    run: RunFacts | None = None,
) -> Comparison:
    """Compare two models on the target and source test sets.

    Which parameters were trained is read from the header of `after`.

    Args:
        before: The original model.
        after: The adapted model, of the same task.
        splits: The data; `test` is the target set and `source_test` the source set.
        loader: Makes batches of the examples. None uses the defaults of `Loader`.
        group_by: The key or keys of the examples (accent, speaker, ...) by which results are grouped.
        causes: The number of examples per set used to measure causes (`find_causes`); 0 skips it.
        compare_neurons: The number of examples per set used to compare neurons; 0 skips it.
        audio_clips: The maximum number of recordings in the report; 0 for none.
        non_speech: The number of sounds without speech that recognisers should write nothing for; 0 skips them.
        normalise: How texts are normalised before they are compared (`adapt.models.writing.choose_normaliser`).
        title: The title of the report; None names the models and the data.
        skipped: For the report, a sentence about each line of the data that could not be used.
        config: The configuration as YAML, for the report.
        run: Facts about the run; None collects them.

    Returns:
        The comparison as plain data, which `adapt.report.page.write_report` turns into a report.

    Raises:
        InputError: There are no test examples, the models perform different tasks, or a count is invalid.
    """
    started = time.perf_counter()
    check_counts(0, causes=causes, compare_neurons=compare_neurons, audio_clips=audio_clips, non_speech=non_speech)
    loader = as_loader(loader)
    metric_before, metric_after = before.model.task.metrics[0], after.model.task.metrics[0]
    if {*before.model.task.metrics} != {*after.model.task.metrics}:
        raise InputError(
            f"Cannot compare '{before.reference}' with '{after.reference}', because they perform different tasks: the "
            f"first is evaluated by {metric_before.label}, the second by {metric_after.label}."
        )
    sets = {name: part for name, part in (("target", splits.test), ("source", splits.source_test)) if part}
    if not sets:
        raise InputError("There are no test examples to compare the models on. Give splits with test or source_test.")
    every = [example for part in sets.values() for example in part]
    with normalising((after.model, before.model), every, normalise):
        hypotheses = [
            {
                name: decode_any_length(loaded.model, loaded.model.task, part, loader, f"{name} {when}")
                for name, part in sets.items()
            }
            for when, loaded in (("before", before), ("after", after))
        ]
        comparison = compare_hypotheses(
            before,
            after,
            sets,
            *hypotheses,
            loader=loader,
            group_by=group_by,
            trained=after.header.get("trained", ()),
            trained_rows=after.header.get("trained_rows"),
            trained_factors=after.header.get("trained_factors"),
            causes=causes,
            compare_neurons=compare_neurons,
            audio_clips=audio_clips,
            non_speech=non_speech,
            title=title,
            skipped=skipped,
            config=config,
            run=run or run_facts(after.model, sets),
        )
    return replace(comparison, seconds=time.perf_counter() - started)


def compare_hypotheses(
    before: Loaded,
    after: Loaded,
    sets: Mapping[str, Sequence[Example]],
    before_hypotheses: Mapping[str, Sequence[str]],
    after_hypotheses: Mapping[str, Sequence[str]],
    *,
    loader: Loader | None = None,
    group_by: str | Sequence[str] = GROUP_BY,
    trained: Sequence[str] = (),
    trained_rows: Mapping[str, int] | None = None,
    trained_factors: Mapping[str, int] | None = None,
    causes: int = 0,
    compare_neurons: int = 0,
    audio_clips: int = 0,
    non_speech: int = 0,
    title: str | None = None,
    history: Sequence[Mapping[str, float]] = (),
    seconds: float = 0.0,
    skipped: Sequence[str] = (),
    config: str = "",
    selection: str = "",
    run: RunFacts | None = None,
    blend: Front | None = None,
) -> Comparison:
    """Compare two models whose hypotheses (transcripts or translations) are already known.

    Texts are compared by the normaliser of the adapted model's task (`adapt.models.writing.normalising` sets it).
    Topographic smoothness is measured if the header of `after` has grids. If measuring the audio clips, neurons,
    causes or smoothness fails, the error is logged and the result is returned without them, so that a long training
    run is not lost.

    Args:
        before: The original model.
        after: The adapted model, of the same task.
        sets: The examples of each set ("target", "source").
        before_hypotheses: The original model's outputs for each set, in the order of its examples.
        after_hypotheses: The adapted model's outputs, likewise.
        loader: Makes batches of the examples. None uses the defaults of `Loader`.
        group_by: The key or keys of the examples (accent, speaker, ...) by which results are grouped.
        trained: The names of the parameters that were trained.
        trained_rows: For each parameter of which only some rows were trained, the number of these rows.
        trained_factors: For each parameter that was trained through low-rank factors, the number of values in these
            factors.
        causes: The number of examples per set used to measure causes (`find_causes`); 0 skips it.
        compare_neurons: The number of examples per set used to compare neurons; 0 skips it.
        audio_clips: The maximum number of recordings in the report; 0 for none.
        non_speech: The number of sounds without speech that recognisers should write nothing for; 0 skips them.
        title: The title of the report; None names the models and the data.
        history: The values logged after each training epoch.
        seconds: The duration of the run.
        skipped: A sentence about each line of the data that could not be used.
        config: The configuration as YAML, for the report.
        selection: A sentence on how the trained parameters were selected.
        run: Facts about the run, for the end of the report.
        blend: The blends with the base that were measured at the end of training.

    Returns:
        The comparison as plain data.

    Raises:
        InputError: A count is invalid.
    """
    check_counts(0, causes=causes, compare_neurons=compare_neurons, audio_clips=audio_clips, non_speech=non_speech)
    loader, task = loader or Loader(), after.model.task
    results, groups, transcripts = score_hypotheses(sets, before_hypotheses, after_hypotheses, task, group_by)
    words = {
        name: word_changes(
            task.comparable(examples, [example.text for example in examples]),
            task.comparable(examples, before_hypotheses[name]),
            task.comparable(examples, after_hypotheses[name]),
            task,
        )
        for name, examples in sets.items()
    }
    names = set_names(sets)
    comparison = Comparison(
        before_name=before.reference,
        after_name=after.reference,
        sets=results,
        groups=groups,
        transcripts=transcripts,
        weights=_weights(before, after, trained, trained_rows, trained_factors),
        metrics=task.metrics,
        example_name=task.example_name,
        title=title or _title(before, after, names, bool(history)),
        words=words,
        history=[dict(row) for row in history],
        seconds=seconds,
        skipped=list(skipped),
        config=config,
        selection=selection,
        set_names=names,
        run=run,
        blend=blend,
        matched_pairs={
            name: _matched_pairs(task, examples, before_hypotheses[name], after_hypotheses[name])
            for name, examples in sets.items()
            if task.in_order
        },
        writing=_writing(task, sets, before_hypotheses, after_hypotheses),
        non_speech=_non_speech(before, after, sets, loader, non_speech),
    )
    return _look_inside(comparison, before, after, sets, loader, causes, compare_neurons, audio_clips)


def _writing(
    task: Task,
    sets: Mapping[str, Sequence[Example]],
    before: Mapping[str, Sequence[str]],
    after: Mapping[str, Sequence[str]],
) -> dict[str, tuple[Writing, Writing]]:
    found = {name: [writing(task, part, texts[name]) for texts in (before, after)] for name, part in sets.items()}
    return {name: (old, new) for name, (old, new) in found.items() if old is not None and new is not None}


def _non_speech(
    before: Loaded, after: Loaded, sets: Mapping[str, Sequence[Example]], loader: Loader, count: int
) -> tuple[NonSpeech, NonSpeech] | None:
    if not count or not after.model.reads_audio or not sets:
        return None
    examples = next(iter(sets.values()))

    def both() -> tuple[NonSpeech, NonSpeech]:
        old, new = (measure_non_speech(one.model, examples, loader, count) for one in (before, after))
        return old, new

    return measure_or_warn("sounds without speech", both)


def _with_languages(
    results: dict[str, SetResult], before: Loaded, after: Loaded, sets: Mapping[str, Sequence[Example]], loader: Loader
) -> dict[str, SetResult]:
    """Add how often each model detects the language of the examples, if both detect languages."""
    measured = dict(results)
    for name, examples in sets.items():
        shares = [language_accuracy(one.model, examples, loader, name) for one in (before, after)]
        if None not in shares:
            old, new = ({"language_accuracy": share} for share in shares)
            result = results[name]
            measured[name] = replace(result, before=result.before | old, after=result.after | new)
    return measured


def _matched_pairs(
    task: Task, examples: Sequence[Example], before: Sequence[str], after: Sequence[str]
) -> MatchedPairs:
    texts = ([example.text for example in examples], before, after)
    references, first, second = (task.compared_words(examples, each) for each in texts)
    return matched_pairs(references, first, second)


def _title(before: Loaded, after: Loaded, names: Mapping[str, str], adapted_now: bool) -> str:
    """Return a title that names the models and the target: `us-english, adapted to Scottish English`."""
    old, new, target = model_name(before.reference), model_name(after.reference), names.get("target")
    if adapted_now or after.header.get("base", {}).get("fingerprint") == before.fingerprint:
        return f"{old}, adapted to {target}" if target else f"{old}, adapted"
    return f"{old} and {new}, compared on {target}" if target else f"{old} and {new}, compared"


def measure_or_warn(name: str, measure: Callable[..., T], *arguments: Any) -> T | None:
    """Call `measure`. If it fails, log the error and return None, so that finished work is not lost."""
    try:
        return measure(*arguments)
    except (InputError, ValueError) as error:
        log.warning("The report does not include %s: %s", name, error)
    except Exception:
        log.exception("The report does not include %s, because measuring it failed.", name)
    return None


def _weights(
    before: Loaded,
    after: Loaded,
    trained: Sequence[str],
    rows: Mapping[str, int] | None,
    factors: Mapping[str, int] | None,
) -> WeightChange | None:
    try:
        return weight_change(before.model, after.model, trained, rows, factors)
    except ValueError as error:
        log.warning("The weights cannot be compared: %s", error)
        return None


def _look_inside(
    comparison: Comparison,
    before: Loaded,
    after: Loaded,
    sets: Mapping[str, Sequence[Example]],
    loader: Loader,
    cause_examples: int,
    neuron_examples: int,
    clip_count: int,
) -> Comparison:
    """Add audio clips, and the analyses that run the models again: neurons, causes and topographic smoothness."""
    models = before.model, after.model
    cells = cells_of_model(after.header, after.reference)
    changed = comparison.weights is not None and comparison.weights.changed > 0
    clips = neurons = causes = smoothness = None
    rate = after.model.sample_rate
    if clip_count and rate:
        clips = measure_or_warn("audio clips", make_audio_clips, comparison.transcripts, sets, rate, clip_count)
    sets = read_at_once(after.model, sets)
    neuron_examples, cause_examples = (count if sets else 0 for count in (neuron_examples, cause_examples))
    if neuron_examples and changed:
        arguments = (*models, sets, loader, neuron_examples, cells)
        neurons = measure_or_warn("the neurons", compare_all_neurons, *arguments)
    if cause_examples and changed:
        causes = measure_or_warn("the causes", find_causes, *models, sets, loader, cause_examples)
    if cells and sets:
        examples = [example for part in sets.values() for example in part]
        arguments = (*models, cells, examples, loader)
        smoothness = measure_or_warn("topographic smoothness", measure_smoothness, *arguments)
    results = measure_or_warn("the detected languages", _with_languages, comparison.sets, before, after, sets, loader)
    found = {"neurons": neurons, "causes": causes, "smoothness": smoothness}
    return replace(comparison, audio_clips=clips or {}, sets=results or comparison.sets, **found)
