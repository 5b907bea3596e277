"""The report's section on the blend with the base."""

import re
import xml.etree.ElementTree as ET

import pytest

from adapt.blending.front import Front, Point
from adapt.metrics import WER, translation_metrics
from adapt.report.blend import blend_section, front_chart


def point(kind, factor, target, source, metric=WER, layers=None):
    values = {"target": {metric.key: target}, "source": {metric.key: source}}
    intervals = {name: (0.9 * value[metric.key], 1.1 * value[metric.key]) for name, value in values.items()}
    layers = layers or {"first": factor, "last": factor}
    return Point(kind, factor, layers, values, intervals, {"target": (-0.1, 0.1), "source": (-0.02, 0.03)},
                 {"target": 1.0, "source": 0.5})  # fmt: skip


@pytest.fixture
def front():
    points = [point("single", 0.0, 0.4, 0.03), point("single", 0.8, 0.2, 0.05), point("single", 1.0, 0.19, 0.09),
              point("layers", 0.75, 0.19, 0.04, layers={"first": 0.5, "last": 1.0}),
              point("random", 0.75, 0.2, 0.06, layers={"first": 1.0, "last": 0.5})]  # fmt: skip
    return Front(WER, points, 3, "Why <this>.", "Source: 60 examples.", {"target": 60, "source": 60},
                 {"first": -0.1, "last": -0.3}, {"first": 0.2, "last": 0.1})  # fmt: skip


def test_the_section_has_every_blend_the_choice_and_the_layers(front):
    page = str(blend_section(front))
    assert "Why &lt;this&gt;." in page
    assert "Source: 60 examples." in page
    rows = re.findall(r'<tr><th scope="row" class="text">(.*?)</th>', page)
    assert rows[:3] == ["Factor 0", "Factor 0.8", "Factor 1"]
    assert rows[3] == "Factors 0.5 to 1 by layer (mean 0.75) (chosen)"
    assert rows[4].endswith("randomly assigned")
    assert "<td>19.0" in page
    assert "<td>-0.3000</td><td>+0.1000</td>" in page
    assert "Down and to the left" in page


def test_the_chart_has_a_point_per_blend_and_a_ring_around_the_chosen_one(front):
    chart = ET.fromstring(str(front_chart(front)))
    circles = chart.findall(".//circle")
    assert len(circles) == len(front.points) + 1
    ring = next(one for one in circles if one.get("class") == "chosen")
    place = next(one for one in circles if one.find("title") is not None and "mean 0.75)" in one.find("title").text)
    assert (ring.get("cx"), ring.get("cy")) == (place.get("cx"), place.get("cy"))
    curve = [pair.split(",") for pair in chart.find(".//polyline").get("points").split()]
    across, up = ([float(pair[side]) for pair in curve] for side in (0, 1))
    assert across == sorted(across)  # a higher error of the source is further right
    assert up == sorted(up)  # a lower error of the target is further down


def test_for_translations_higher_is_better():
    bleu = translation_metrics()[0]
    points = [point("single", 0.0, 20, 60, bleu), point("single", 1.0, 50, 55, bleu)]
    front = Front(bleu, points, 1, "", "", {"target": 9, "source": 9}, {}, {})
    assert "Up and to the right" in blend_section(front)
    curve = ET.fromstring(str(front_chart(front))).find(".//polyline").get("points").split()
    assert float(curve[1].split(",")[1]) < float(curve[0].split(",")[1])  # a better target is further up
