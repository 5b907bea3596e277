"""The sentences on style, languages and sounds say what the figures say, and claim no gain that is style."""

from dataclasses import replace

import pytest

from adapt.comparison.results import Comparison
from adapt.models.writing import Writing
from adapt.report.page import render
from adapt.report.result_notes import about_languages, about_style, result_notes, style_before_training


def written(errors: int, punctuation: int, normalised: int, wer: float) -> Writing:
    return Writing(("english",), 100, errors, punctuation, normalised, {"wer": wer, "cer": wer})


@pytest.fixture
def styled(comparison: Comparison) -> Comparison:
    """The target's WER falls from 46.5 to 18.2 % (28.3 points) without style, and from 81 to 20 % as written."""
    return replace(comparison, writing={"target": (written(81, 60, 46, 0.81), written(20, 19, 18, 0.2))})


def test_the_gain_by_style_is_named(styled: Comparison) -> None:
    text = about_style(styled, "target")
    assert "compared by Whisper's English normaliser" in text and "81.0 % before and 20.0 % after" in text
    assert "43 % of its errors are style only (26 % punctuation, 17 % numbers, contractions and spellings)" in text
    assert "Of the gain of 61.0 points as written, 32.7 are style, which the table does not count." in text
    assert about_style(styled, "source") == "" and text in result_notes(styled)
    assert text.replace(" %", "\u00a0%").replace("'", "&#39;") in render(styled)


def test_a_gain_that_is_all_style(styled: Comparison) -> None:
    result = styled.sets["target"]
    same = replace(styled, sets=styled.sets | {"target": replace(result, after=result.before)})
    assert "The whole gain of 61.0 points as written is style." in about_style(same, "target")


def test_no_gain_is_not_split(styled: Comparison) -> None:
    worse = replace(styled, writing={"target": (written(20, 19, 18, 0.2), written(81, 60, 46, 0.81))})
    assert "gain" not in about_style(worse, "target")


def test_before_training(styled: Comparison) -> None:
    text = style_before_training("target", styled.writing["target"][0])
    assert text.startswith("target: as written, the WER is 81.0 %, but 43 % of its errors are style only")
    assert "normalise=none" in text


def test_languages(comparison: Comparison) -> None:
    result = comparison.sets["target"]
    before, after = (
        values | {"language_accuracy": share} for values, share in ((result.before, 0.9), (result.after, 0.5))
    )
    found = replace(comparison, sets={"target": replace(result, before=before, after=after)})
    assert "in 90.0 % of the utterances before and 50.0 % after: −40.0 points" in about_languages(found, "target")
    assert about_languages(comparison, "target") == ""


def test_they_survive_saving(styled: Comparison, tmp_path) -> None:
    styled.save(tmp_path / "comparison.json")
    loaded = Comparison.load(tmp_path / "comparison.json")
    assert loaded.writing == styled.writing
    assert loaded.figures()["target"]["before"]["as_written"]["style_share"] == pytest.approx(35 / 81)
