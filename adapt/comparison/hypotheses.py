"""Evaluate two models' hypotheses for the same examples by set and by group, and list the changed transcripts."""

from collections.abc import Mapping, Sequence

import numpy as np

from adapt.comparison.results import GroupResult, SetResult, by_group, grouping_keys
from adapt.comparison.words import Transcript, align
from adapt.data.example import Example
from adapt.data.pairs import Pair
from adapt.metrics import paired_intervals, word_edits
from adapt.models.task import Task, recognition

GROUP_BY = ("accent", "speaker", "domain")
MAX_TRANSCRIPTS = 12


def score_hypotheses(
    sets: Mapping[str, Sequence[Example]],
    before: Mapping[str, Sequence[str]],
    after: Mapping[str, Sequence[str]],
    task: Task = recognition,
    group_by: str | Sequence[str] = GROUP_BY,
) -> tuple[dict[str, SetResult], list[GroupResult], list[Transcript]]:
    """Evaluate the hypotheses of two models for the same examples.

    Args:
        sets: The examples of each set.
        before: The hypotheses of the original model, by set.
        after: The hypotheses of the adapted model, by set.
        task: Defines the metrics.
        group_by: The keys of the examples (accent, speaker, ...) by which results are grouped. Keys that no example of
            a set has are ignored.

    Returns:
        The metrics by set, the metrics by group, and the transcripts that changed most.
    """
    results, groups, transcripts = {}, [], []
    for name, examples in sets.items():
        old, new = task.score(examples, before[name]), task.score(examples, after[name])
        results[name] = SetResult(old.as_dict(), new.as_dict(), paired_intervals(old, new))
        for key in grouping_keys(group_by):
            chosen = by_group(examples, key)
            if list(chosen) != ["unknown"]:
                groups += [
                    GroupResult(name, key, value, old[indices].as_dict(), new[indices].as_dict())
                    for value, indices in chosen.items()
                ]
        transcripts += _most_changed(name, examples, before[name], after[name], task)
    return results, groups, transcripts


def _most_changed(
    name: str, examples: Sequence[Example], before: Sequence[str], after: Sequence[str], task: Task
) -> list[Transcript]:
    references, before, after = (
        task.compared_words(examples, texts) for texts in ([example.text for example in examples], before, after)
    )
    improvement = word_edits(references, before) - word_edits(references, after)
    # As many of the most worsened transcripts as of the most improved: improvements alone would be misleading.
    order = np.argsort(-improvement, kind="stable")
    improved = [int(i) for i in order if improvement[i] > 0][: MAX_TRANSCRIPTS // 2]
    worsened = [int(i) for i in order[::-1] if improvement[i] < 0][: MAX_TRANSCRIPTS // 2]
    return [
        Transcript(
            set=name,
            name=example.name,
            reference=example.text,
            improvement=int(improvement[i]),
            before=align(references[i], before[i]),
            after=align(references[i], after[i]),
            source=example.source if isinstance(example, Pair) else "",
            index=i,
        )
        for i in improved + worsened
        for example in (examples[i],)
    ]
