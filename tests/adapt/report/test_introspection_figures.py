"""Tables and heat maps of measures show all of their figures, and names are escaped."""

import re
from pathlib import Path

import torch

from adapt.introspect.probes.probe import Probe, ProbeRow
from adapt.introspect.similarity.similarity import Similarity
from adapt.introspect.weights.measures import ParameterChange, WeightMeasures
from adapt.report import page
from adapt.report.heat_map import SHADES, heat_map
from adapt.report.probes import neuron_table, probe_table
from adapt.report.similarity import similarity_figure
from adapt.report.weights import weight_table
from interventions.neurons import Scores
from interventions.sites import Site


def test_a_heat_map_has_a_cell_for_each_pair_with_its_value():
    matrix = [[1.0, 0.5, -0.04], [0.5, 1.0, 0.004]]
    drawn = str(heat_map("t", ["net.a.x", "net.a.y"], ["net.a.x", "net.b.x", "net.b.y"], matrix))
    assert drawn.count("<rect") == 6 and "net.a.x, net.b.y: -0.040" in drawn
    shades = re.findall(r'fill="(#[0-9a-f]{6})"', drawn)
    assert shades == [SHADES[-1], SHADES[5], SHADES[0], SHADES[5], SHADES[-1], SHADES[0]]
    assert re.findall(r">([^<]*)</text>", drawn)[-6:] == ["1.00", ".50", "−.04", ".50", "1.00", "0"]
    assert ">x</text>" in drawn and ">a.x</text>" in drawn  # without the parts that all names share


def test_many_layers_are_drawn_small_without_figures():
    many = [f"layer{number}" for number in range(60)]
    drawn = str(heat_map("t", many, many, torch.eye(60).tolist()))
    assert drawn.count("<rect") == 3600 and 'class="in"' not in drawn
    assert int(re.search(r'width="(\d+)"', drawn).group(1)) < 800


def test_names_are_escaped():
    similarity = Similarity("cka", ("<b>", "c"), ("<b>", "c"), torch.eye(2), 40, "step")
    assert "<b>" not in str(similarity_figure(similarity)) and "CKA over 40 steps" in str(similarity_figure(similarity))
    rows = (ProbeRow("<b>", 0.75, (0.5, 0.9), 0.25),)
    assert "<b>" not in str(probe_table(Probe("x", "linear", ("a", "b"), rows, Scores({}), {}, 10, 4)))


def test_neurons_are_listed_by_score_at_each_site_and_by_class_at_the_most_accurate_site():
    first, second = Site("a", 1, 4, ()), Site("<b>", 1, 20, ())
    scores = Scores({first: torch.tensor([0.0, 3.0, 1.0, 2.0]), second: torch.arange(20.0)})
    classes = ("x", "y", "<z>")
    each = {name: Scores({first: torch.eye(4)[n], second: torch.eye(20)[n]}) for n, name in enumerate(classes)}
    rows = tuple(ProbeRow(name, right, (0.1, 0.9), 0.3) for name, right in (("a", 0.5), ("<b>", 0.8)))
    drawn = str(neuron_table(Probe("t", "linear", classes, rows, scores, each, 10, 4)))
    lines = re.findall(r'scope="row" class="text">(.*?)</th><td class="text">(.*?)</td>', drawn)
    assert lines[0] == ("<code>a</code>", "1, 3, 2")  # without the neuron whose score is 0
    assert lines[1] == ("<code>&lt;b&gt;</code>", ", ".join(map(str, range(19, 7, -1))))
    assert lines[2:] == [
        (f"{name} at <code>&lt;b&gt;</code>", str(n)) for n, name in enumerate(("x", "y", "&lt;z&gt;"))
    ]
    tied = Scores({second: torch.ones(20)})
    assert ", 11, and 8 more with the same score as the last<" in str(
        neuron_table(Probe("t", "linear", (), rows, tied, {}, 10, 4))
    )
    two = Probe("t", "linear", classes[:2], rows, scores, each, 10, 4)
    assert str(neuron_table(two)).count("<tr") == 3  # the head and the sites


def test_probes_before_and_after():
    def probe(accuracy, control):
        rows = tuple(ProbeRow(site, accuracy, (accuracy - 0.1, accuracy + 0.1), control) for site in ("s1", "s2"))
        return Probe("accent", "linear", ("a", "b"), rows, Scores({}), {}, 10, 4)

    alone, both = str(probe_table(probe(0.75, 0.8))), str(probe_table(probe(0.75, 0.5), probe(0.85, 0.55)))
    assert "75.0 %<small>65.0–85.0 %" in alone and "−5.0" in alone
    # The control task is learned better than the target, so nothing is drawn that looks like a finding.
    assert alone.count("<circle") == 0 and alone.count("Nothing follows from this.") == 2
    assert both.count("<circle") == 4 and "85.0 %<small>75.0–95.0 %" in both and "+30.0" in both
    assert "s1: before 0.750, control 0.500, after 0.850, control 0.550" in both


def test_changed_and_unchanged_weights():
    unchanged = ParameterChange("a.weight", (3, 4), 0.0, 0.0, 1.0, None, 0.0, 0.0, 0.0, 1.0)
    moved = ParameterChange("b.weight", (3, 4), 0.5, 0.125, 0.99, None, 0.2, 2.0, 2.5, 0.75)
    bias = ParameterChange("b.bias", (3,), 1.0, 0.5, 0.9, None, None, None, None, None)
    drawn = str(weight_table(WeightMeasures((unchanged, moved, bias), *(Scores({}),) * 4)))
    assert drawn.count("<tr") == 3 and "b.bias" not in drawn and "By chance" not in drawn
    assert "12.5 %" in drawn and "50.0 %" in drawn and drawn.count('class="frozen"') == 1
    known = ParameterChange("b.weight", (3, 4), 0.5, 0.125, 0.99, 0.05, 0.2, 2.0, 2.5, 0.75)
    assert "By chance" in str(weight_table(WeightMeasures((known,), *(Scores({}),) * 4)))


def test_numbers_of_words_keep_their_digits_their_sign_and_their_names():
    drawn = str(
        heat_map("t", ["z.B.", "z.T.", "z"], ["a", "b"], [[10.23, -0.97], [-12.4, 0.03], [-5.12, 1.5]], signed=True)
    )
    assert re.findall(r">([^<]*)</text>", drawn) == [
        "z.B.",
        "z.T.",
        "z",
        "a",
        "b",
        "10",
        "−.97",
        "−12",
        ".03",
        "−5.1",
        "1.50",
    ]
    red, pale, blue, white, *_ = re.findall(r'fill="#([0-9a-f]{6})"', drawn)
    assert int(red[:2], 16) > int(red[4:], 16) and int(blue[:2], 16) < int(blue[4:], 16)
    assert int(pale[:2], 16) > 200 and int(white[:2], 16) > 250


def test_the_two_kinds_of_pictures_have_styles_of_their_own():
    style = (Path(page.__file__).parent / "templates" / "style.css").read_text()
    assert 'class="matrix"' in str(heat_map("t", ["a"], ["a"], [[1.0]]))
    assert len(re.findall(r"^\.heat \{", style, re.M)) == len(re.findall(r"^\.matrix \{", style, re.M)) == 1
