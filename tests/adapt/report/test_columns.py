"""Merging two alignments into columns keeps all words, their order and the kind of each error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.comparison.words import Transcript, align
from adapt.report.columns import Column, columns, lines

TEXT = st.lists(st.sampled_from(["a", "b", "c", "das", "straße"]), min_size=1, max_size=8).map(" ".join)


def transcript(reference: str, before: str, after: str) -> Transcript:
    """Align the output of two models with a reference."""
    return Transcript("target", "x.wav", reference, 0, align(reference, before), align(reference, after))


@given(TEXT, TEXT, TEXT)
def test_each_row_reads_as_its_text_and_its_errors_are_the_word_edits(reference: str, before: str, after: str) -> None:
    aligned = transcript(reference, before, after)
    merged = columns(aligned)
    assert [column.reference for column in merged if column.reference] == reference.split()
    for when, text, alignment in (("before", before, aligned.before), ("after", after, aligned.after)):
        cells = [getattr(column, when) for column in merged]
        assert [cell.text for cell in cells if cell.text] == text.split()
        edits = sum(word.reference != word.hypothesis for word in alignment)
        assert sum(cell.kind in ("wrong", "extra", "missing") for cell in cells) == edits


def test_kinds() -> None:
    merged = columns(transcript("one two three", "one too", "one so two three"))
    assert [(c.reference, c.before.text, c.before.kind, c.after.text, c.after.kind) for c in merged] == [
        ("one", "one", "right", "one", "right"),
        ("", "", "none", "so", "extra"),
        ("two", *_second(merged, "two"), "two", "right"),
        ("three", *_second(merged, "three"), "three", "right"),
    ]
    # The aligner decides which of the two words "too" replaces; the other is missing.
    assert sorted(c.before.kind for c in merged) == ["missing", "none", "right", "wrong"]


def _second(merged: list[Column], reference: str) -> tuple[str, str]:
    column = next(column for column in merged if column.reference == reference)
    return column.before.text, column.before.kind


def test_alignments_with_different_references_are_refused() -> None:
    broken = Transcript("target", "x.wav", "one", 0, align("one", "one"), align("two", "two"))
    with pytest.raises(ValueError, match="different references"):
        columns(broken)


@given(st.lists(TEXT, min_size=1, max_size=6), st.integers(4, 40))
def test_lines_keep_every_column_and_stay_within_the_width(texts: list[str], width: int) -> None:
    merged = columns(transcript(" ".join(texts), texts[0], texts[-1]))
    broken = list(lines(merged, width))
    assert [column for line in broken for column in line] == merged
    assert all(len(line) == 1 or sum(column.width for column in line) <= width for line in broken)
