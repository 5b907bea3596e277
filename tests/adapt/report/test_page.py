"""The report is self-contained, escapes its input, shows every number, and works when parts are missing."""

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from studio_page import CHROMIUM, browser

from adapt.comparison.matched_pairs import MatchedPairs
from adapt.comparison.results import Comparison, GroupResult, SetResult
from adapt.comparison.unlabelled import Trial, Unlabelled
from adapt.comparison.words import AlignedWord, Transcript
from adapt.introspect.weights.change import LayerChange, WeightChange
from adapt.report.page import MAX_GROUPS, render, write_report

VOID = {"meta", "br", "hr", "img", "input", "link"}
DRAWN = {"line", "circle", "rect", "path", "polyline"}


class Page(HTMLParser):
    """Parse a page: its tags with attributes and its visible text. Every tag must be closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in DRAWN
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join(" ".join(self.texts).replace("\u00a0", " ").split())

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        """Yield the attributes of each tag of this kind."""
        return (attributes for name, attributes in self.tags if name == tag)


def section(page: str, heading: str) -> str:
    """Return the text of one section, or "" if the page does not have it."""
    found = re.search(rf'<section aria-labelledby="{heading}">.*?</section>', page, re.DOTALL)
    return Page(found.group()).text if found else ""


def test_it_is_self_contained(comparison: Comparison) -> None:
    page = render(comparison)
    assert "http:" not in page and "https:" not in page and "url(" not in page and "@import" not in page
    document = Page(page)
    tags = {tag for tag, _ in document.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    addresses = [(tag, attributes[key]) for tag, attributes in document.tags
                 for key in ("src", "href", "xlink:href", "srcset") if key in attributes]  # fmt: skip
    assert all(address.startswith("data:audio/mpeg;base64," if tag == "audio" else "#") for tag, address in addresses)
    policy = next(meta["content"] for meta in document.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_its_structure_is_accessible(comparison: Comparison) -> None:
    page = render(comparison)
    document = Page(page)
    assert page.startswith("<!doctype html>") and next(document.all("html")) == {"lang": "en"}
    assert all("scope" in attributes for attributes in document.all("th"))
    pictures = re.findall(r"<svg[^>]*>(?:<title>[^<]+</title>)?", page)
    assert pictures
    assert all('aria-hidden="true"' in svg or ('role="img"' in svg and "<title>" in svg) for svg in pictures)
    levels = [int(tag[1]) for tag, _ in document.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    names = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(names) == len(set(names))
    sections = [attributes["aria-labelledby"] for attributes in document.all("section")]
    assert set(sections) == set(names)
    assert [attributes["href"] for attributes in document.all("a")] == [f"#{name}" for name in sections]


def test_input_is_escaped(comparison: Comparison) -> None:
    bad = "<script>alert('x')</script>&\"q\""
    layer = LayerChange(bad, 10, 10, 10, 0, 0.1, 0.9, [0.1, None])
    given = replace(
        comparison, title=bad, before_name=bad, after_name=bad, config=bad, skipped=[bad],
        groups=[GroupResult("target", bad, bad, comparison.groups[0].before, comparison.groups[0].after)],
        transcripts=[Transcript(bad, bad, bad, 1, [AlignedWord(bad, bad)], [AlignedWord(bad, bad + bad)])],
        weights=WeightChange(10, 10, 10, 0, [layer]),
    )  # fmt: skip
    page = render(given)
    document = Page(page)
    assert "<script" not in page.lower()
    assert document.text.count(bad) >= 10
    assert "script" not in {tag for tag, _ in document.tags}


def test_the_same_comparison_gives_the_same_bytes(comparison: Comparison, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, comparison)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes() != b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_an_error_while_drawing_keeps_the_old_page(comparison: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, comparison)
    old = path.read_bytes()
    broken = Transcript("target", "x", "one", 1, [AlignedWord("one", "")], [AlignedWord("two", "two")])
    with pytest.raises(ValueError, match="different references"):
        write_report(path, replace(comparison, transcripts=[broken]))
    assert path.read_bytes() == old


def test_every_number_of_the_result_is_shown(comparison: Comparison) -> None:
    text = section(render(comparison), "result")
    for number in (
        "46.5 %", "44.5–48.5 %", "18.2 %", "16.2–20.2 %", "−28.3", "−30.9 to −25.7", "412 utterances",  # target WER
        "18.6 %", "17.6–19.6 %", "7.3 %", "6.3–8.3 %", "−11.3", "−13.0 to −10.0",  # target CER
        "9.1 %", "7.1–11.1 %", "12.4 %", "10.4–14.4 %", "+3.3", "+2.2 to +4.4", "1,300 utterances",  # source WER
        "3.6 %", "2.6–4.6 %", "5.0 %", "4.0–6.0 %", "+1.3", "−1.0 to +3.0",  # source CER
        "256,861", "72,253", "28.1 %", "72,184", "192", "6 min 12 s",  # weights
    ):  # fmt: skip
        assert number in text, number


def test_parameters_of_low_rank_factors_are_counted(comparison: Comparison) -> None:
    trained = section(render(comparison), "result").partition("Trained")[2].partition("Changed")[0]
    assert "parameter" not in trained
    by_factors = replace(comparison, weights=replace(comparison.weights, parameters=1_234))
    assert "28.1 % of them, by 1,234 trainable parameters" in section(render(by_factors), "result")


def test_the_summary_follows_the_title(comparison: Comparison) -> None:
    text = Page(render(comparison)).text
    assert (
        "German from English Word error rate on the target set fell from 46.5 % to 18.2 %; on the source set it" in text
    )


@pytest.mark.parametrize(
    ("difference", "word"), [((-0.2, -0.1), "better"), ((0.1, 0.2), "worse"), ((-0.1, 0.1), "no clear change")]
)
def test_the_verdict_follows_from_the_interval(
    comparison: Comparison, difference: tuple[float, float], word: str
) -> None:
    target = replace(comparison.sets["target"], difference={"wer": difference, "cer": (-0.1, 0.1)})
    text = section(render(replace(comparison, sets={"target": target})), "result")
    row = text.partition("Measure")[2].partition("WER ")[2].partition("CER ")[0]
    assert [verdict for verdict in ("better", "worse", "no clear change") if verdict in row] == [word]


def test_groups_are_sorted_by_change_and_coloured_if_clear(comparison: Comparison) -> None:
    page = render(comparison)
    rows = re.findall(r'<th scope="row" class="text">([A-Z][a-z]+)</th>.*?</svg></td>(.*?)</tr>', page, re.DOTALL)
    assert [(name, re.findall(r"<td[^>]*>(.*?)</td>", cells)) for name, cells in rows] == [
        ("Saxon", ["50.0 %", "20.0 %", "▼ −30.0", "23"]),
        ("Hessian", ["42.0 %", "40.0 %", "▼ −2.0", "19"]),
        ("Bavarian", ["40.0 %", "41.0 %", "▲ +1.0", "17"]),
        ("Swabian", ["30.0 %", "37.1 %", "▲ +7.1", "31"]),
    ]
    assert re.findall(r'<td class="(better|worse)">(▼|▲)', page) == [("better", "▼"), ("worse", "▲")]


def test_of_many_groups_the_most_changed_are_shown(comparison: Comparison) -> None:
    like = comparison.groups[0]
    groups = [
        replace(like, key="speaker", value=f"speaker {n:03}", after=like.after | {"wer": 0.4 + 0.001 * n})
        for n in range(MAX_GROUPS + 7)
    ]
    text = section(render(replace(comparison, groups=groups)), "groups")
    assert len(set(re.findall(r"speaker (\d{3})", text))) == MAX_GROUPS
    assert "speaker 000" in text and f"speaker {MAX_GROUPS + 6:03}" in text and "7 groups with smaller changes" in text


def test_a_single_unknown_group_has_no_table(comparison: Comparison) -> None:
    unknown = replace(comparison.groups[0], value="unknown")
    assert section(render(replace(comparison, groups=[unknown])), "groups") == ""
    assert "unknown" in section(render(replace(comparison, groups=[unknown, comparison.groups[1]])), "groups")


def test_transcripts_are_aligned_and_errors_are_marked(comparison: Comparison) -> None:
    page = render(comparison)
    rows = re.findall(r'<tr[^>]*><th scope="row">(reference|before|after)</th>(.*?)</tr>', page)
    cells = {name: re.findall(r"<td>(.*?)</td>", row) for name, row in rows}
    assert cells["reference"] == ["die", "straße", ""]
    for cell, kind in zip(cells["before"], ("wrong", "missing", "extra"), strict=True):
        assert f'class="{kind}"' in cell
    assert cells["after"][0] == "die" and 'class="wrong"' in cells["after"][1] and cells["after"][2] == ""
    assert "2 words better target one.wav" in section(page, "words")
    # Errors are marked by more than colour.
    assert re.search(r"\.wrong \{[^}]*underline", page) and re.search(r"\.extra \{[^}]*line-through", page)
    assert re.search(r"\.missing \{[^}]*dashed", page)


def test_training_is_shown_as_curves_and_numbers(comparison: Comparison) -> None:
    page = render(comparison)
    text = section(page, "learning")
    assert "trained for 3 epochs" in text and "best validation WER was reached in epoch 2" in text
    assert "validation epoch 2: 1.2" in text and "CER epoch 3: 20 %" in text and "0.0005" in text
    assert page.count('<svg class="curves"') == 2 + 1  # and the chart of the causes


def test_training_without_validation_or_finite_losses(comparison: Comparison) -> None:
    assert section(render(replace(comparison, history=[])), "learning") == ""
    page = render(replace(comparison, history=[{"epoch": 1, "train_loss": 2.5}]))
    text = section(page, "learning")
    assert "1 epoch." in text and "Validation" not in text and "best validation" not in text
    assert page.count('<svg class="curves"') == 1 + 1
    page = render(replace(comparison, history=[{"epoch": 1, "train_loss": math.inf}]))
    assert page.count('<svg class="curves"') == 0 + 1 and "inf" in section(page, "learning")


def test_each_layer_is_listed_in_network_order(comparison: Comparison) -> None:
    text = section(render(comparison), "weights")
    assert "net.0 184,608 0 0 frozen: bit-identical net.3" in text
    assert "net.3 192 batch-norm statistics changed 64,800 64,800 64,731 99.9 % 2.5 % 0.9997 net.6" in text
    assert "net.6 7,453 7,453 7,453 100.0 % 14.7 % 0.9892" in text
    assert "1 layer was not trained. After training, 1 of 1 is bit-identical" in text
    assert text.count("frozen: bit-identical") == 2  # in the table and among the neurons
    assert "4 units; 2 new; median 20.0 %" in text


def test_causes_are_listed_part_by_part(comparison: Comparison) -> None:
    page = Page(render(comparison))
    assert "What caused the change" in page.text and "net.6.weight is always taken from the adapted model" in page.text
    # From 46 %, net.3 applied alone gives 23 %; reverting it gives 41 %. The random neurons have no effect.
    rows = render(comparison).split('<h2 id="causes">')[1].split("<tr")[1:]
    planted, random = (next(row for row in rows if name in row) for name in ("net.3", "random neurons"))
    assert 'class="better">23.0' in planted and "−25.0 to −21.0" in planted
    assert 'class="worse">41.0' in planted and "+21.0 to +25.0" in planted
    assert "better" not in random and "worse" not in random
    assert "What caused the change" not in render(replace(comparison, causes=None))


def test_a_frozen_layer_that_changed_is_reported(comparison: Comparison) -> None:
    layers = comparison.weights.layers
    for moved in ({"changed": 1}, {"buffers_changed": 1}):
        drifted = replace(comparison.weights, layers=[replace(layers[0], **moved), *layers[1:]])
        text = section(render(replace(comparison, weights=drifted)), "weights")
        assert "Not trained but changed: net.0." in text and "frozen: bit-identical" not in text


def test_without_a_record_of_training_no_layer_is_called_frozen(comparison: Comparison) -> None:
    layers = [replace(layer, trained=0) for layer in comparison.weights.layers]
    page = render(replace(comparison, weights=replace(comparison.weights, trained=0, layers=layers)))
    assert "not recorded" in section(page, "result")
    text = section(page, "weights")
    assert "frozen" not in text and "bit-identical" in text and "not trained" not in text.lower()


def test_weights_that_cannot_be_compared(comparison: Comparison) -> None:
    page = render(replace(comparison, weights=None))
    assert "two models have different architectures" in section(page, "weights")
    assert "Batch-norm" not in section(page, "result") and "6 min 12 s" in section(page, "result")


def test_values_that_are_nan_are_dashes(comparison: Comparison) -> None:
    layers = [replace(comparison.weights.layers[1], relative=math.nan, cosine=math.nan), *comparison.weights.layers]
    text = section(render(replace(comparison, weights=replace(comparison.weights, layers=layers))), "weights")
    assert "— —" in text and "nan" not in text


def test_the_smallest_comparison(comparison: Comparison) -> None:
    page = render(Comparison("a", "b", {}, [], [], None))
    text = Page(page).text
    assert "Nothing was compared: there was no test set." in text
    assert "Time" not in text and "word errors" not in text and "Skipped" not in text and "Configuration" not in text
    same = replace(comparison, transcripts=[])
    assert "The number of word errors did not change in any utterance." in section(render(same), "words")


def test_one_utterance_with_a_rate_of_zero() -> None:
    none = {"wer": 0.0, "wer_interval": (0.0, 0.0), "cer": 0.0, "cer_interval": (0.0, 0.0), "examples": 1}
    text = section(
        render(
            Comparison(
                "a", "b", {"source": SetResult(none, none, {"wer": (0.0, 0.0), "cer": (0.0, 0.0)})}, [], [], None
            )
        ),
        "result",
    )
    assert "1 utterance " in text and "fewer than 30 utterances" in text and "no clear change" in text


def test_models_and_skipped_lines_are_listed(comparison: Comparison) -> None:
    text = section(render(comparison), "about")
    assert "Before outputs/base After outputs/after" in text
    assert (
        "train.jsonl:17: the text has 'é'." in text
        and "1 line of the data could not be used and is not included" in text
        and "seed: 0" in text
    )
    many = section(render(replace(comparison, skipped=[f"line {n}" for n in range(45)])), "about")
    assert "45 lines" in many and "25 more" in many and "line 44" in many


def test_wide_layers_take_little_space(comparison: Comparison) -> None:
    wide = LayerChange("net.0", 16_000_000, 16_000_000, 16_000_000, 0, 0.1, 0.9, [n % 97 / 50 for n in range(2000)])
    page = render(replace(comparison, weights=WeightChange(1, 1, 1, 0, [wide] * 11)))
    assert len(page.encode()) < 400_000


@pytest.mark.slow
def test_importing_it_does_not_import_heavy_libraries() -> None:
    code = "import sys, adapt.report.page; print([m for m in ('torch', 'matplotlib', 'jiwer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_group_with_all_examples_has_no_table(comparison: Comparison) -> None:
    every = GroupResult("source", "accent", "en-us", *2 * (comparison.sets["source"].before,))
    page = render(replace(comparison, groups=[*comparison.groups, every]))
    assert "1,300 utterances, accent en-us" in section(page, "result")
    assert "Source, by accent" not in page and "Target, by accent" in page
    assert 'href="#groups"' not in render(replace(comparison, groups=[every]))


def test_words_are_counted_and_only_significant_changes_are_coloured(
    comparison: Comparison,
) -> None:
    page = render(comparison)
    text = section(page, "words")
    assert "Of 4 different words, 1 improved significantly and 1 worsened significantly" in text
    assert "Inserted words in total: 31 before, 12 after." in text
    gains, losses = text.partition("Inserted Improved")[2].split(" Worse ")
    assert "straße 40 3 31 under 0.001 stras 20×, deleted 4× 2 → 0 nein 9 4 8 — nine 5× 0" in gains
    assert "und 88 80 71 0.012 ont 17× 0 → 3" in losses.partition("Example utterances")[0]
    assert "selten" not in text  # changed in too few utterances
    assert re.findall(r'<th scope="row" class="text (\w+)">(\w+)', page) == [("better", "straße"), ("worse", "und")]


def test_words_of_translations_have_no_substitutions(comparison: Comparison) -> None:
    words = {"target": replace(comparison.words["target"], aligned=False)}
    text = section(render(replace(comparison, words=words)), "words")
    assert "stras 20×" not in text and "Word order is ignored" in text and "Substitutions" not in text


def test_only_audio_clips_can_be_played(comparison: Comparison) -> None:
    document = Page(render(comparison))
    (player,) = document.all("audio")
    assert player["src"] == "data:audio/mpeg;base64,bXAz" and "controls" in player
    assert player["aria-label"] == "Recording one.wav, 2.3 s"
    silent = Page(render(replace(comparison, audio_clips={})))
    policies = [next(meta["content"] for meta in own.all("meta") if "http-equiv" in meta) for own in (document, silent)]
    assert ["media-src data:" in policy for policy in policies] == [True, False]
    assert not list(silent.all("audio")) and "embedded in this page" not in silent.text


def test_kinds_of_errors_and_the_matched_pair_test_are_shown(comparison: Comparison) -> None:
    kinds = {"substitutions": 0.3, "deletions": 0.1, "insertions": 0.065}
    target = comparison.sets["target"]
    target = replace(target, before={**target.before, **kinds}, after={**target.after, **kinds})
    tested = replace(
        comparison,
        sets={**comparison.sets, "target": target},
        matched_pairs={"target": MatchedPairs(120, -0.4, 0.0004), "source": MatchedPairs(1, 0.0, None)},
    )
    text = section(render(tested), "result")
    assert "substitutions 30.0 % before and 30.0 % after, deletions 10.0 %" in text
    assert "(MAPSSWE) on 120 segments with errors: p-value under 0.001." in text and text.count("MAPSSWE") == 1
    assert tested.figures()["target"]["matched_pairs"]["segments"] == 120


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt install chromium")
def test_the_steps_without_labels_fit_into_the_page(comparison: Comparison, tmp_path: Path) -> None:
    verdict = "not kept: the agreement did not rise beyond its standard error, and the source became worse than allowed"
    trials = [Trial("base", 0.81, 0.9, 1.0, 3.4), Trial("normalisation statistics", 0.8, 0.9, 1.0, 3.9, 1200, verdict)]
    said = "a sentence of some twenty words that a recogniser could have written for a recording of ten seconds or so"
    found = Unlabelled(trials, "base", 60, texts=[("clips/a-long-name-of-a-recording.wav", said, said)])
    page = tmp_path / "report.html"
    page.write_text(render(replace(comparison, unlabelled=found)), encoding="utf-8")
    with browser(width=1200) as opened:
        opened.page.goto(page.as_uri())
        opened.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        for region in ("Steps without labels", "Texts without a reference"):
            sizes = opened.page.locator(f'[aria-label="{region}"]').evaluate(
                "one => [one.scrollWidth, one.clientWidth]"
            )
            assert sizes[0] <= sizes[1] + 1, f"{region}: {sizes[0]} px in {sizes[1]}"
