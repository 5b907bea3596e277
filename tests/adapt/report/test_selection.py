"""The page of a selection: every neuron has a cell, selected ones a frame, and ranks agree with the scores."""

import re
from pathlib import Path

import pytest
import torch

from adapt.report.selection import ScoredMeasure, top_neurons, write_selection
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

FIRST, SECOND = Site("net.0", -1, 4, ("net.0.weight",)), Site("net.1", -1, 3, ("net.1.weight",))


def measure(name: str, scale: float = 1.0) -> ScoredMeasure:
    scores = {FIRST: torch.tensor([0.1, 0.4, 0.2, 0.3]) * scale, SECOND: torch.tensor([0.0, 0.7, 0.6])}
    chosen = Neurons({FIRST: [1], SECOND: [1, 2]})
    return ScoredMeasure(
        name, Scores(scores), chosen, f"Selected by {name}: 3 neurons, 40 %.", {"net.0": 5, "net.1": 9}
    )


MEASURES = [measure("fisher"), measure("<random>", scale=-1.0)]


def test_top_neurons_are_sorted_and_ranked() -> None:
    top = top_neurons(MEASURES[0], MEASURES, 3)
    assert [(one["site"], one["unit"], one["rank"], one["chosen"]) for one in top] == [
        ("net.1", 1, 1, True), ("net.1", 2, 2, True), ("net.0", 1, 1, True),
    ]  # fmt: skip
    assert [one["other_ranks"] for one in top] == [[1], [2], [7]]


@pytest.fixture
def page(tmp_path: Path) -> str:
    pair = {"one": "fisher", "other": "<random>", "both": 2, "overlap": 0.5, "chance": 0.2, "correlation": -0.25}
    write_selection(tmp_path / "a.html", MEASURES, [pair], "A <title>", "seed: 0")
    return (tmp_path / "a.html").read_text()


def test_every_neuron_has_a_cell_and_selected_ones_a_frame(page: str) -> None:
    strips = re.findall(r'<svg class="strip".*?</svg>', page, re.DOTALL)
    cells = ["".join(re.findall(r'<path stroke="[^"]*" d="([^"]*)"', strip)).count("m") for strip in strips]
    frames = [re.search(r'class="chosen" d="(.*?)"', strip)[1].count("z") for strip in strips]
    assert cells == [4, 3, 4, 3] and frames == [1, 2, 1, 2]
    assert "1 of 4" in page and "<td>18</td>" in page  # two neurons with nine weights each


def test_measures_are_compared_and_text_is_escaped(page: str) -> None:
    assert "0.20 by chance" in page and "−0.25" in page and "A &lt;title&gt;" in page
    assert "<random>" not in page and "Selected by fisher: 3 neurons, 40\u00a0%." in page
    assert "<script" not in page and "default-src 'none'" in page and "seed: 0" in page
