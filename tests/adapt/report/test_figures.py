"""Figures are well-formed, to scale, have one cell per neuron, and accept empty and infinite values."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapt.metrics import WER
from adapt.report import figures


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6))
def test_an_axis_covers_its_range_with_few_even_ticks(low: float, span: float) -> None:
    ticks = figures.axis(low, low + span).ticks
    room = 1e-9 * max(1.0, abs(low) + span)
    assert ticks[0] <= low + room and low + span <= ticks[-1] + room
    assert 2 <= len(ticks) <= 6
    steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
    assert max(steps) - min(steps) <= room


def test_an_axis_of_an_empty_range_has_a_length() -> None:
    assert figures.axis(0.0, 0.0).place(0.0) == 0.0


def test_positions_are_relative_to_the_first_tick() -> None:
    scale = figures.axis(-1.0, 1.0)
    assert [scale.place(value) for value in (-1.0, 0.0, 1.0)] == [0.0, 0.5, 1.0]


def test_intervals_are_drawn_to_scale() -> None:
    rates = [{"wer": wer, "wer_interval": (wer - 0.1, wer + 0.1)} for wer in (0.4, 0.2)]
    scale = figures.metric_axis(rates, [WER])
    assert (scale.ticks[0], scale.ticks[-1]) == (0.0, 50.0)
    root = ElementTree.fromstring(figures.interval_pair("speaker <p1>", rates[0], rates[1], WER, scale))
    assert root.findtext("title") == "speaker <p1>: before 40.0 % (30.0–50.0 %), after 20.0 % (10.0–30.0 %)"
    drawn = {group.get("class"): group for group in root.iter("g")}
    for when, places in (("before", ("60.00%", "100.00%", "80.00%")), ("after", ("20.00%", "60.00%", "40.00%"))):
        line, circle = drawn[when]
        assert (line.get("x1"), line.get("x2"), circle.get("cx")) == places


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e13)), min_size=1, max_size=400))
@example([0.0, 0.002, None, 0.5] * 100)
def test_a_strip_has_one_cell_per_neuron_in_order(neurons: list[float | None]) -> None:
    root = ElementTree.fromstring(figures.neuron_strip("layer", neurons))
    seen = {}
    for path in root.iter("path"):
        drawing = path.get("d")
        if path.get("class") == "new":
            for x, y in re.findall(r"M(\d+) (\d+)", drawing):
                seen[int(x) // 7 + int(y) // 11 * figures.UNITS_PER_ROW] = None
            continue
        x = y = 0
        for dx, dy in re.findall(r"m(-?\d+) (-?\d+)h6", drawing):
            x, y = x + int(dx), y + int(dy)
            seen[x // 7 + y // 11 * figures.UNITS_PER_ROW] = path.get("stroke")
            x += 6
    assert sorted(seen) == list(range(len(neurons)))
    for shade, change in ((None, None), (figures.IDENTICAL, 0.0)):
        assert {u for u, own in seen.items() if own == shade} == {u for u, own in enumerate(neurons) if own == change}
    shades = [figures.SHADES.index(seen[u]) for u, v in sorted(enumerate(neurons), key=lambda pair: pair[1] or 0) if v]
    assert shades == sorted(shades)  # more change is never paler


def test_the_same_change_has_the_same_shade_in_every_layer() -> None:
    one, other = (figures.neuron_strip("x", neurons) for neurons in ([0.02], [0.02, 50.0]))
    assert figures.SHADES[2] in one and figures.SHADES[2] in other


def test_the_legend_names_every_shade_once() -> None:
    assert [name for name, _ in figures.shade_key()] == [
        "identical", "under 0.1 %", "0.1–1 %", "1–3 %", "3–10 %", "10–30 %", "30–100 %", "100 % or more", "new unit",
    ]  # fmt: skip
    assert len({swatch for _, swatch in figures.shade_key()}) == 9


@pytest.mark.parametrize(
    ("neurons", "text"),
    [
        ([None, None], "2 units; 2 new"),
        ([0.0, 0.0, 0.0], "3 units; median 0 %"),
        ([0.1, 0.0, 0.3, None, 0.2], "5 units; 1 new; median 20.0 %; most changed: 2 (30.0 %), 4 (20.0 %), 0 (10.0 %)"),
    ],
)
def test_neurons_are_described(neurons: list[float | None], text: str) -> None:
    assert figures.describe(neurons) == text


def test_curves_leave_out_values_that_are_not_finite() -> None:
    history = [{"epoch": 1, "a": math.inf}, {"epoch": 2, "a": 2.0}, {"epoch": 3}, {"epoch": 4, "a": 1.0}]
    line = figures.curve("loss", "training", history, "a")
    assert dict(line.values) == {2: 2.0, 4: 1.0}
    root = ElementTree.fromstring(figures.curves("Loss", [line]))
    assert len(root.find("g/polyline").get("points").split()) == 2
    assert [title.text for title in root.iter("title")] == ["Loss", "loss epoch 2: 2", "loss epoch 4: 1"]
    assert figures.curves("Nothing", [figures.curve("x", "training", history, "b")]) is None


def test_one_epoch_is_a_point_inside_the_picture() -> None:
    root = ElementTree.fromstring(figures.curves("WER", [figures.Curve("WER", "validation", {7: 0.0})], " %"))
    x, y = map(float, root.find("g/polyline").get("points").split(","))
    assert 46 < x < 468 and 34 <= y <= 206


def test_a_bar_is_as_long_as_its_share_of_the_largest() -> None:
    assert 'width="25.0%"' in figures.bar(0.01, 0.04)
    assert 'width="0.0%"' in figures.bar(math.nan, 0.04) and 'width="0.0%"' in figures.bar(0.0, 0.0)
