"""Sentences on an adaptation without labels: what was used, and what its figures say and do not say."""

from collections.abc import Sequence
from typing import Any

from adapt.models.model import Model
from adapt.unlabelled.lexicon import separates_words
from adapt.unlabelled.options import WithoutLabels


def about_data(data: Any, options: WithoutLabels, known: Sequence[str], model: Model) -> list[str]:
    """Return what the labels of the data are used for, and what is known of words or of the other direction."""
    notes = []
    given = sum(bool(example.text) for example in (*data.train, *data.held_out))
    if given:
        what = "transcripts" if model.reads_audio else "translations"
        notes.append(f"{given:,} training and validation examples have {what}, which were not used.")
    if separates_words(model) and options.rounds:
        origin = "the given texts" if options.words else "the source's transcripts"
        notes.append(
            f"Pseudo-labels are written in the words of {origin}."
            if known
            else "Pseudo-labels are written in words that the model itself wrote in the target, by their frequency. "
            "A list of the target's words, or source data with transcripts, would repair more."
        )
    if not model.reads_audio:
        notes.append(
            "Translations were checked by translating them back."
            if options.reverse is not None
            else "There is no model of the other direction, so the model learned from its own translations (forward "
            "self-training); they were checked with dropout only."
        )
    return notes


def about(has_source: bool) -> list[str]:
    """Return what the figures say and do not say. `has_source`: labelled source data were given."""
    notes = [
        "Agreement is no error rate. A model that repeats the same mistake at every speed agrees with itself; only "
        "test data with labels can tell how many errors are left."
    ]
    if not has_source:
        notes.append(
            "There are no labelled source data, so nothing says what the model forgot. Give source_train to measure "
            "and to limit it."
        )
    return notes
