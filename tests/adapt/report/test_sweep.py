"""The page of a sweep shows every setting, the unmodified model at 0, and controls, and is self-contained."""

import re
from pathlib import Path

import pytest

from adapt.evaluation.sweep import SweepPoint
from adapt.metrics import CER, WER, translation_metrics
from adapt.report.sweep import write_sweep


def point(chart: str, line: str, value: float, wer: float, control: bool = False) -> SweepPoint:
    """Return a setting of a model whose unmodified WER is 40 %."""
    quality, bare = (
        {"wer": w, "wer_interval": (w - 0.02, w + 0.02), "cer": w / 2, "cer_interval": (0, w)} for w in (wer, 0.4)
    )
    difference = {"wer": (wer - 0.41, wer - 0.39), "cer": (-0.1, 0.1)}
    return SweepPoint(chart, line, value, quality, bare, difference, control)


POINTS = [
    point("conv1", "scottish", 0.5, 0.35), point("conv1", "scottish", 1.0, 0.3), point("conv1", "us", 1.0, 0.5),
    point("conv1", "scottish, random 0", 1.0, 0.4, control=True), point("conv2", "scottish", -1.0, 0.45),
]  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> str:
    write_sweep(
        tmp_path / "a.html", POINTS, (WER, CER), "utterance", "A <title>", "It fell by 3 %.", "coefficient", "seed: 0"
    )
    return (tmp_path / "a.html").read_text()


def test_every_setting_is_listed_with_its_difference(page: str) -> None:
    rows = re.findall(r"<tr><th scope=\"row\" class=\"text\">(.*?)</tr>", page, re.DOTALL)
    assert len(rows) == len(POINTS) and "A &lt;title&gt;" in page and "seed: 0" in page
    assert "35.0 %" in rows[0] and "33.0–37.0 %" in rows[0] and "−5.0" in rows[0] and 'class="better"' in rows[0]
    assert 'class="worse"' in rows[2] and "worse" not in rows[3] and "better" not in rows[3]
    assert "<td>-1</td>" in rows[4] and 'class="worse"' in rows[4]


def test_each_place_has_a_chart_with_the_unmodified_model_at_zero(page: str) -> None:
    pictures = re.findall(r'<svg class="curves".*?</svg>', page, re.DOTALL)
    assert len(pictures) == 2 and page.count("<figcaption>conv") == 2
    assert "scottish coefficient 0: 40 %" in pictures[0] and "scottish coefficient 1: 30 %" in pictures[0]
    assert "scottish coefficient -1: 45 %" in pictures[1] and "random" not in pictures[1]
    assert re.findall(r'<g class="curve (\w+)"><polyline', pictures[0]) == ["validation", "second", "third"]


def test_all_charts_share_one_legend(page: str) -> None:
    key = page.partition('<ul class="key">')[2].partition("</ul>")[0]
    assert re.findall(r"</svg>(.*?)</li>", key) == ["scottish", "us", "control"]


def test_it_is_self_contained(page: str) -> None:
    assert "<script" not in page and "src=" not in page and "@import" not in page and "default-src 'none'" in page


def test_a_metric_of_which_higher_is_better(tmp_path: Path) -> None:
    bleu = translation_metrics()[:1]
    values = [{"bleu": v, "bleu_interval": (v - 1, v + 1)} for v in (20.0, 10.0)]
    one = SweepPoint("target", "interventions", 1.0, values[0], values[1], {"bleu": (8.0, 12.0)})
    write_sweep(tmp_path / "a.html", [one], bleu, "sentence", "t", "s", "strength")
    page = (tmp_path / "a.html").read_text()
    assert (
        'class="better"' in page
        and "+10.0" in page
        and "higher is better" in page
        and "interventions strength 1: 20<" in page
    )
