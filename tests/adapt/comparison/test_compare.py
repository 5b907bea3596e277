"""Comparing hypotheses: alignments that agree with the error rate, groups, and the transcripts that changed most."""

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.comparison.compare import score_hypotheses
from adapt.comparison.results import by_group
from adapt.comparison.words import AlignedWord, align
from adapt.data.manifest import Utterance
from adapt.metrics import error_rates, paired_intervals

WORDS = st.lists(st.sampled_from(["a", "b", "c", "ab"]), max_size=7)


@given(WORDS, WORDS)
def test_mismatches_are_the_edits_and_both_texts_are_preserved(reference, hypothesis):
    places = align(" ".join(reference), " ".join(hypothesis))
    assert [place.reference for place in places if place.reference] == reference
    assert [place.hypothesis for place in places if place.hypothesis] == hypothesis
    assert all(place.reference or place.hypothesis for place in places)
    counted = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    edits = counted.substitutions + counted.deletions + counted.insertions
    assert sum(place.reference != place.hypothesis for place in places) == edits


def test_align_an_example():
    assert align("the cat sat", "the bat sat down") == [
        AlignedWord("the", "the"), AlignedWord("cat", "bat"), AlignedWord("sat", "sat"), AlignedWord("", "down"),
    ]  # fmt: skip
    assert align("a b", "b") == [AlignedWord("a", ""), AlignedWord("b", "b")]


def utterance(text, number=0, **facts):
    return Utterance(f"{number}.wav", text, **facts)


def test_groups_are_sorted_and_contain_every_example():
    accents = ["us", "in", None, "us", "in", "au"]
    groups = by_group([utterance("a", accent=accent) for accent in accents], "accent")
    assert list(groups) == ["au", "in", "unknown", "us"]
    assert {value: chosen.tolist() for value, chosen in groups.items()} == {
        "au": [5], "in": [1, 4], "unknown": [2], "us": [0, 3],
    }  # fmt: skip
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(6))


def test_groups_of_any_key():
    utterances = [utterance("a", extra={"age": 3}), utterance("b", extra={"age": "3"}), utterance("c")]
    assert {value: chosen.tolist() for value, chosen in by_group(utterances, "age").items()} == {
        "3": [0, 1],
        "unknown": [2],
    }


@pytest.fixture
def compared():
    texts = ["a b c", "a b", "c c c c", "b a", "a"]
    sets = {"target": [utterance(t, n, accent="us" if n < 3 else "in", speaker=str(n)) for n, t in enumerate(texts)]}
    before = {"target": ["a b", "a b", "c", "b a", "b"]}
    after = {"target": ["a b c", "b", "c c c", "b a", "b"]}
    return sets, before, after, score_hypotheses(sets, before, after)


def test_set_results_are_the_error_rates_of_the_hypotheses(compared):
    sets, before, after, (results, _, _) = compared
    references = [u.text for u in sets["target"]]
    old, new = error_rates(references, before["target"]), error_rates(references, after["target"])
    assert results["target"].before == old.as_dict() and results["target"].after == new.as_dict()
    assert results["target"].difference == paired_intervals(old, new)


def test_group_results_are_the_error_rates_of_their_utterances(compared):
    _, _, _, (_, groups, _) = compared
    found = {(g.key, g.value): (g.before["wer"], g.after["wer"], g.before["examples"]) for g in groups}
    assert found["accent", "us"] == (4 / 9, 2 / 9, 3) and found["accent", "in"] == (1 / 3, 1 / 3, 2)
    assert found["speaker", "4"] == (1, 1, 1)
    assert len(found) == len(groups) == 2 + 5 and {g.set for g in groups} == {"target"}


def test_only_changed_transcripts_are_listed_improved_ones_first(compared):
    _, before, after, (_, _, transcripts) = compared
    assert [(t.name, t.improvement) for t in transcripts] == [("2.wav", 2), ("0.wav", 1), ("1.wav", -1)]
    for transcript in transcripts:
        number = int(transcript.name[0])
        for places, texts in ((transcript.before, before), (transcript.after, after)):
            assert " ".join(p.hypothesis for p in places if p.hypothesis) == texts["target"][number]
        edits = [sum(p.reference != p.hypothesis for p in places) for places in (transcript.before, transcript.after)]
        assert edits[0] - edits[1] == transcript.improvement


def test_as_many_worsened_transcripts_are_listed_as_improved_ones():
    sets = {"target": [utterance("a b c", n) for n in range(40)]}
    before = {"target": ["a b"] * 30 + ["a b c"] * 10}
    after = {"target": ["a b c"] * 30 + ["a"] * 10}
    _, _, transcripts = score_hypotheses(sets, before, after, group_by=())
    improvements = [t.improvement for t in transcripts]
    assert improvements == [1] * 6 + [-2] * 6


def test_equal_hypotheses_have_no_difference(compared):
    sets, before, _, _ = compared
    results, groups, transcripts = score_hypotheses(sets, before, before)
    assert results["target"].difference == {"wer": (0, 0), "cer": (0, 0)} and transcripts == []
    assert all(group.before == group.after for group in groups)


def test_sets_are_evaluated_separately(compared):
    sets, before, after, _ = compared
    both = {name: {"target": values["target"], "source": values["target"]} for name, values in
            (("sets", sets), ("before", before), ("after", after))}  # fmt: skip
    results, groups, transcripts = score_hypotheses(both["sets"], both["before"], both["after"])
    assert results["source"] == results["target"]
    for rows in (groups, transcripts):
        assert [row.set for row in rows] == ["target"] * (len(rows) // 2) + ["source"] * (len(rows) // 2)


def test_a_key_that_no_example_has_makes_no_groups(compared):
    sets, before, after, _ = compared
    _, groups, _ = score_hypotheses(sets, before, after, group_by=("accent", "domain"))
    assert {group.key for group in groups} == {"accent"}
