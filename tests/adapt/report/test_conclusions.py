"""The sentence that opens a section says what the figures below it allow, and no more."""

from dataclasses import replace

import numpy as np
import pytest

from adapt.comparison.causes import Cause, Causes, Effect
from adapt.comparison.facts import RunFacts
from adapt.comparison.neurons import NeuronComparison, SiteComparison
from adapt.introspect.probes.probe import Probe, ProbeRow
from adapt.introspect.similarity.similarity import Similarity
from adapt.introspect.topography.maps import TopographicMap
from adapt.metrics import more_than_chance
from adapt.models.task import recognition
from adapt.report import conclusions
from adapt.report.page import render
from adapt.report.run_facts import run_facts
from interventions.neurons import Scores

WER = recognition.metrics[0]
PLACES = {"target": "Scottish English", "source": "US English"}


def causes(reverted: list[tuple[float, float]], applied: list[tuple[float, float]], after: float = 0.2) -> Causes:
    """Return causes on one set with a WER of 0.4 before, given the intervals of each layer's differences."""
    parts = [
        Cause(
            f"net.conv{n}", "layer", 10, {"target": Effect({"wer": after}, {"wer": old})},
            {"target": Effect({"wer": 0.4 + sum(new) / 2}, {"wer": new})},
        )
        for n, (old, new) in enumerate(zip(reverted, applied, strict=True))
    ]  # fmt: skip
    return Causes({"target": 40}, {"target": {"wer": 0.4}}, {"target": {"wer": after}}, parts, [], {}, [])


NO, WORSE, BETTER = (-0.1, 0.1), (0.05, 0.15), (-0.15, -0.05)


def test_no_single_layer_is_needed_for_the_gain():
    text = conclusions.about_causes(causes([NO] * 4, [NO] * 4), WER, PLACES)
    assert text == "No single layer is needed for the gain on Scottish English; no single layer brings it alone."


def test_needed_and_sufficient_layers_are_named():
    text = conclusions.about_causes(causes([WORSE, WORSE], [BETTER, NO]), WER, PLACES)
    assert text == "The gain on Scottish English needs the change of conv0 and conv1; conv0 alone brings 50 % of it."


def test_a_loss_needs_the_layers_without_which_it_is_smaller():
    text = conclusions.about_causes(causes([BETTER, NO], [WORSE, NO], after=0.5), WER, PLACES)
    assert text == "The loss on Scottish English needs the change of conv0; conv0 alone brings 100 % of it."


def test_one_of_many_layers_may_be_chance():
    assert "No single layer is needed" in conclusions.about_causes(causes([WORSE] + [NO] * 11, [NO] * 12), WER, PLACES)


@pytest.mark.parametrize(("count", "total", "expected"), [(0, 5, False), (1, 2, True), (1, 12, False), (2, 11, True)])
def test_how_many_intervals_are_more_than_chance(count, total, expected):
    assert more_than_chance(count, total) == expected


def probe(low: float) -> Probe:
    """Return a probe of two layers whose accuracies have intervals from `low` to 0.9; the control is at 0.6."""
    rows = tuple(ProbeRow(f"s{n}", 0.8, (low, 0.9), 0.6) for n in range(2))
    return Probe("accent", "linear", ("a", "b"), rows, Scores({}), {}, 10, 4)


def test_nothing_follows_from_a_probe_within_chance():
    assert conclusions.about_probes((probe(0.55), probe(0.58))).startswith("Nothing follows from this")
    text = conclusions.about_probes((probe(0.55), probe(0.7)))
    assert text == "The accent can be read from 0 of 2 layers before and from 2 after."


def neurons(changed: int) -> NeuronComparison:
    """Return a comparison of two sites with 10 neurons each."""
    sites = [SiteComparison("net.a", 10, 0.98, changed, []), SiteComparison("net.b", 10, 0.9, 0, [])]
    return NeuronComparison("letter", 5, sites, Similarity("cka", [], [], np.zeros((0, 0)), 1, "step"), [], None)


def test_changed_neurons_are_counted_and_the_most_changed_layer_named():
    assert conclusions.about_neurons(neurons(0)) == "No neuron responds significantly differently."
    text = conclusions.about_neurons(neurons(3))
    assert (
        text == "3 of 20 neurons respond significantly differently. The representation of b changed most (CKA 0.900)."
    )


def test_the_most_changed_map_is_named():
    before = np.array([[1.0, 0.0], [0.0, 1.0]])
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    maps = [
        TopographicMap("net.a", ("x", "y"), points, before, before * 1.1),
        TopographicMap("net.b", ("x", "y"), points, before, before * np.array([1.0, 1.5])),
    ]
    assert conclusions.about_maps(maps) == "The response of b to y changed most, by 50 % of a typical response."


def test_the_groups_that_changed_clearly_are_counted():
    text = conclusions.about_groups("speaker", [True, True, False], [True, True, False], "the target set", WER)
    assert text == "On the target set, WER is clearly better for 2 of 3 speakers and clearly worse for none."
    text = conclusions.about_groups("speaker", [True], [False], "the target set", WER)
    assert text == "On the target set, WER changed clearly for none of 1 speaker."


def test_every_section_opens_with_a_sentence_and_the_page_ends_with_the_facts(comparison):
    facts = RunFacts(
        "2026-11-30T12:00:00+00:00", "innertune adapt", {"innertune": "0.2.0"}, "Linux on x86_64, 2 CPU cores",
        {"train": 660}, {"train": 0.33}, 7, 0.001,
    )  # fmt: skip
    page = render(replace(comparison, run=facts, set_names={"target": "Saxony"}))
    assert page.count('class="conclusion"') >= 4 and "Word error rate on Saxony fell from 46.5" in page
    shown = dict(run_facts(replace(comparison, run=facts)))
    assert shown["Date"] == "2026-11-30 12:00:00 UTC" and shown["Seed"] == "7" and shown["Learning rate"] == "0.001"
    assert shown["Data"] == "train 660 utterances (0.33 hours)"
    assert all(value in page for value in shown.values())


def test_a_base_that_reads_nothing_is_named(comparison):
    before = {**comparison.sets["target"].before, "wer": 1.03}
    sets = {**comparison.sets, "target": replace(comparison.sets["target"], before=before)}
    page = render(replace(comparison, sets=sets))
    assert "outputs/base gets next to nothing right here: its WER is 103.0" in page and "openai/whisper-small" in page
    assert "next to nothing" not in render(comparison)
