"""Numbers as text, and the summary, which claims no direction if the interval includes 0."""

import math
from dataclasses import replace

import pytest

from adapt import formatting
from adapt.comparison.results import Comparison, SetResult
from adapt.metrics import WER, Metric
from adapt.report import wording


def set_result(like: SetResult, before: float, after: float, difference: tuple[float, float]) -> SetResult:
    """Return a result with other word error rates."""
    return SetResult(like.before | {"wer": before}, like.after | {"wer": after}, {"wer": difference})


def test_summary_names_the_gain_and_the_forgetting(comparison: Comparison) -> None:
    assert wording.summary(comparison) == (
        "Word error rate on the target set fell from 46.5 % to 18.2 %; "
        "on the source set it rose from 9.1 % to 12.4 % (forgetting +3.3 points)."
    )


BLEU = Metric("bleu", "BLEU", "BLEU", higher=True, percent=False)


def test_if_higher_is_better_a_rise_is_a_gain_and_a_fall_is_forgetting(comparison: Comparison) -> None:
    def values(value: float) -> dict[str, object]:
        return {"bleu": value, "bleu_interval": (value - 1, value + 1), "examples": 300}

    sets = {
        "target": SetResult(values(10.0), values(60.0), {"bleu": (45.0, 55.0)}),
        "source": SetResult(values(90.0), values(80.5), {"bleu": (-12.0, -8.0)}),
    }
    translated = replace(comparison, sets=sets, metrics=(BLEU,), example_name="sentence")
    assert wording.summary(translated) == (
        "BLEU on the target set rose from 10.0 to 60.0; "
        "on the source set it fell from 90.0 to 80.5 (forgetting +9.5 points)."
    )
    differences = [(45.0, 55.0), (-12.0, -8.0), (-1.0, 1.0)]
    assert [wording.verdict(own, BLEU) for own in differences] == ["better", "worse", "no clear change"]
    assert [wording.verdict(own, WER) for own in differences] == ["worse", "better", "no clear change"]


def test_one_example_has_no_interval_and_no_verdict(comparison: Comparison) -> None:
    assert wording.verdict((-0.1, -0.1), WER) == wording.verdict((0.1, 0.1), WER) == "no clear change"
    assert formatting.amount_range((0.571, 0.571), WER, 1) == formatting.points_range((0, 0), WER, 1) == "no interval"
    target = comparison.sets["target"]
    one = replace(target, before={**target.before, "examples": 1}, difference={"wer": (0.1, 0.1), "cer": (0.1, 0.1)})
    said = wording.summary(replace(comparison, sets={"target": one}))
    assert "There is no clear change" in said and "has no interval" in said and "includes 0" not in said


@pytest.mark.parametrize("difference", [(-0.018, 0.006), (0.0, 0.01), (-0.01, 0.0), (0.0, 0.0)])
def test_no_direction_is_claimed_when_the_interval_includes_zero(
    comparison: Comparison, difference: tuple[float, float]
) -> None:
    sets = {name: set_result(own, 0.465, 0.459, difference) for name, own in comparison.sets.items()}
    text = wording.summary(replace(comparison, sets=sets))
    assert text.count("no clear change") == 2
    assert "fell" not in text and "rose" not in text
    assert "46.5 % before, 45.9 % after" in text and "includes 0" in text and "forgetting −0.6 points" in text


def test_a_rise_on_the_target_is_called_a_rise(comparison: Comparison) -> None:
    worse = set_result(comparison.sets["target"], 0.3, 0.35, (0.01, 0.09))
    assert wording.summary(replace(comparison, sets={"target": worse})) == (
        "Word error rate on the target set rose from 30.0 % to 35.0 %."
    )


def test_the_source_alone_and_no_set_at_all(comparison: Comparison) -> None:
    alone = wording.summary(replace(comparison, sets={"source": comparison.sets["source"]}))
    assert alone == "Word error rate on the source set rose from 9.1 % to 12.4 % (forgetting +3.3 points)."
    assert "no test set" in wording.summary(replace(comparison, sets={}))


def test_few_utterances_are_mentioned(comparison: Comparison) -> None:
    like = comparison.sets["target"]
    few = SetResult(like.before | {"examples": 1}, like.after | {"examples": 1}, like.difference)
    assert wording.summary(replace(comparison, sets={"target": few})).endswith("(measured on only 1 utterance).")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "0.0 %"),
        (1, 10**6, "under 0.1 %"),
        (1, 3, "33.3 %"),
        (10**6 - 1, 10**6, "over 99.9 %"),
        (5, 5, "100.0 %"),
        (0, 0, "—"),
    ],  # fmt: skip
)
def test_a_share_never_rounds_some_to_none_or_most_to_all(part: int, whole: int, text: str) -> None:
    assert formatting.share(part, whole) == text


def test_numbers() -> None:
    assert formatting.amount(1.2, WER) == "120.0 %" and formatting.amount(46.53, BLEU) == "46.5"
    assert (
        formatting.amount_range((0.1, 0.123), WER) == "10.0–12.3 %"
        and formatting.amount_range((9, 12), BLEU) == "9.0–12.0"
    )
    assert formatting.amount(math.nan, BLEU) == formatting.points(math.nan, WER) == "—"
    for say in (formatting.relative, formatting.cosine):
        assert say(math.nan) == "—"
    assert [formatting.points(x, WER) for x in (-0.283, 0.033, 0.0, -0.0001)] == ["−28.3", "+3.3", "0.0", "0.0"]
    assert formatting.points_range((-0.018, 0.006), WER) == "−1.8 to +0.6"
    assert formatting.points_range((-1.8, 0.6), BLEU) == "−1.8 to +0.6"
    assert formatting.count(23_282_529) == "23,282,529"
    assert [formatting.relative(x) for x in (0.0, 1e-6, 0.0037, 0.0254, 1.51, 1e6)] == [
        "0 %", "under 0.01 %", "0.37 %", "2.5 %", "151 %", "over 10,000 %",
    ]  # fmt: skip
    assert [formatting.duration(x) for x in (0.4, 42, 372.4, 4000)] == ["0.4 s", "42 s", "6 min 12 s", "1 h 6 min"]
    assert [wording.better(x) for x in (3, 1, -2)] == ["3 words better", "1 word better", "2 words worse"]
    assert wording.better(0) == "unchanged"
    assert formatting.short("a" * 100 + "bcde") == "aaaaaaaaaaaa…bcde"
    assert formatting.short("Hochdeutsch mit leichtem Akzent") == "Hochdeutsch mit leichtem Akzent"
