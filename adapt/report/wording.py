"""Sentences of the report: the result of a comparison, and the verdict that a confidence interval allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from adapt.formatting import amount, counted, points, points_range, probability
from adapt.metrics import EDITS

if TYPE_CHECKING:
    from adapt.comparison.results import Comparison
    from adapt.comparison.unlabelled import Unlabelled
    from adapt.metrics import Metric

Verdict = Literal["better", "worse", "no clear change"]
FEW_EXAMPLES = 30  # with fewer examples, bootstrap intervals are too narrow


def better(words: int) -> str:
    """Return the change in word edits as text: `3 words better`, `2 words worse`."""
    if not words:
        return "unchanged"
    return f"{counted(abs(words), 'word')} {'better' if words > 0 else 'worse'}"


def set_label(comparison: Comparison, name: str) -> str:
    """Return a set's name for a sentence: `Scottish English`, or `the target set` if its examples have no name."""
    return comparison.set_names.get(name) or f"the {name} set"


def word_errors(comparison: Comparison, name: str) -> str:
    """Return a sentence on the kinds of word errors on a set, and one on the matched-pair test; empty if unknown."""
    result, test = comparison.sets[name], comparison.matched_pairs.get(name)
    sentences = []
    if all(kind in values for kind in EDITS for values in (result.before, result.after)):
        kinds = [
            f"{kind} {100 * result.before[kind]:.1f} % before and {100 * result.after[kind]:.1f} % after"
            for kind in EDITS
        ]
        sentences.append(f"Of the words of {set_label(comparison, name)}: {', '.join(kinds)}.")
    if test is not None and test.p_value is not None:
        segments = counted(test.segments, "segment")
        sentences.append(
            f"NIST's matched-pair test (MAPSSWE) on {segments} with errors: p-value {probability(test.p_value)}."
        )
    return " ".join(sentences)


def reads_nothing(before: float, metric: Metric) -> bool:
    """Return whether a model gets next to nothing right: an error rate of 90 % or more, or a BLEU below 1."""
    return before < 1 if metric.higher else before >= 0.9


def nothing_read(model: str, before: float, metric: Metric) -> str:
    """Return the advice for a model that gets next to nothing right."""
    return (
        f"{model} gets next to nothing right here: its {metric.label} is {amount(before, metric)}. It was probably not "
        "trained on this language or kind of data, and little data cannot make up for that. Start from a model that "
        "was: model.pretrained=OWNER/NAME of the Hugging Face hub, such as openai/whisper-small for speech or "
        "Helsinki-NLP/opus-mt-en-de for translation, or the folder of one."
    )


def verdict(difference: Sequence[float], metric: Metric) -> Verdict:
    """Return whether a metric got better or worse, given the confidence interval of its paired difference.

    An interval of a single value is that of one example, which shows nothing.
    """
    low, high = difference
    if low <= 0 <= high or low == high:
        return "no clear change"
    return "better" if (low > 0) == metric.higher else "worse"


def summary(comparison: Comparison) -> str:
    """Summarise the result in one sentence, in terms of the most important metric."""
    clauses = [_clause(comparison, name, first=i == 0) for i, name in enumerate(comparison.sets)]
    if not clauses and comparison.unlabelled is not None:
        return "There are no test data with labels, so the number of errors is not known. " + unlabelled_summary(
            comparison.unlabelled
        )
    if not clauses:
        return "Nothing was compared: there was no test set."
    return "; ".join(clauses) + "."


def unlabelled_summary(found: Unlabelled) -> str:
    """Return a sentence on what an adaptation without labels changed, as far as it can be seen without labels."""
    if found.chosen == "base":
        return "Without labels, nothing raised the held-out agreement: the result is the base."
    before, after = found.base, found.result
    return (
        f"Without labels, the held-out agreement rose from {before.agreement:.3f} to {after.agreement:.3f} and the "
        f"confidence from {before.confidence:.3f} to {after.confidence:.3f} ({found.chosen})."
    )


def _clause(comparison: Comparison, name: str, first: bool) -> str:
    metric, result = comparison.metrics[0], comparison.sets[name]
    before, after, interval = result.before[metric.key], result.after[metric.key], result.difference[metric.key]
    notes, place = [], set_label(comparison, name)
    if name == "source":
        lost = before - after if metric.higher else after - before
        notes.append(f"forgetting {points(lost, metric)} points")
    if verdict(interval, metric) == "no clear change":
        if result.before["examples"] > 1:
            notes.append(f"the 95 % interval of the difference, {points_range(interval, metric)} points, includes 0")
        else:
            notes.append(f"one {comparison.example_name} has no interval")
        start = f"There is no clear change in {metric.name}" if first else "there is no clear change"
        clause = f"{start} on {place}: {amount(before, metric)} before, {amount(after, metric)} after"
    else:
        start = f"{metric.name[0].upper()}{metric.name[1:]} on {place}" if first else f"on {place} it"
        direction = "fell" if interval[1] < 0 else "rose"
        clause = f"{start} {direction} from {amount(before, metric)} to {amount(after, metric)}"
    if result.before["examples"] < FEW_EXAMPLES:
        notes.append(f"measured on only {counted(result.before['examples'], comparison.example_name)}")
    return f"{clause} ({'; '.join(notes)})" if notes else clause
