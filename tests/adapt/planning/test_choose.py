"""Which examples to label next: for recordings, sentences to translate and sentences to read; and the files of it."""

import csv
import json

import pytest
from tone_speech import write_tones

from adapt import Pair, load_model, next_examples, next_sentences, read_manifest
from adapt.data.inputs import read_sources
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.planning.files import write_batch
from adapt.planning.read import read_candidates
from adapt.report.plan import write_plan


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def pool(speech):
    return [own for name in ("low_test", "high_test") for own in read_manifest(speech[name])[0]]


@pytest.fixture(scope="module")
def batch(loaded, pool):
    return next_examples(loaded, pool, minutes=0.1)


def test_a_batch_is_within_its_budget_and_covers_more_than_chance(batch, pool):
    assert 0.08 < batch.spent <= 0.1 and 0 < len(batch.chosen) < len(pool) == len(batch.candidates)
    assert [one.rank for one in batch.chosen] == list(range(1, len(batch.chosen) + 1))
    assert {one.number for one in batch.candidates} == set(range(len(pool)))
    covered = batch.comparison["coverage"]
    assert covered["chosen"] > covered["random"] and batch.comparison["gradient"]["chosen"] > 0
    assert all(one.reason.startswith("covers '") for one in batch.chosen)
    assert all(set(one.scores) == {"gradient", "confusion", "disagreement"} for one in batch.candidates)


def test_the_texts_of_candidates_are_not_used(loaded, pool, batch):
    from dataclasses import replace

    blind = next_examples(loaded, [replace(one, text="") for one in pool], minutes=0.1)
    assert [one.number for one in blind.chosen] == [one.number for one in batch.chosen]


@pytest.mark.parametrize("criterion", ["gradient", "confusion", "disagreement"])
def test_a_measure_prefers_the_accent_that_is_new(loaded, pool, criterion):
    chosen = next_examples(loaded, pool, number=6, criterion=criterion).chosen
    assert sum(one.number >= 12 for one in chosen) >= 4  # the second half of the pool


def test_random_choice_follows_the_seed(loaded, pool):
    drawn = [
        [one.number for one in next_examples(loaded, pool, number=5, criterion="random", seed=seed).chosen]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 5


def test_what_is_known_is_not_chosen_again(loaded, pool):
    first = next_examples(loaded, pool[:12], number=1, criterion="coverage", units="words")
    known = [pool[first.chosen[0].number]]
    second = next_examples(loaded, pool[:12], known, number=1, criterion="coverage", units="words")
    assert second.chosen[0].number != first.chosen[0].number


def test_files(batch, pool, tmp_path):
    manifest, table = write_batch(tmp_path, batch)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [row["audio_filepath"] for row in rows] == [one.name for one in batch.chosen]
    assert all(row["text"] == "" and row["reason"] and "hypothesis" in row for row in rows)
    found = read_manifest(manifest, needs_text=False)[0]
    assert len(found) == len(batch.chosen)
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert len(lines) == len(pool) and lines[0]["rank"] == "1" and lines[-1]["rank"] == ""
    assert float(lines[0]["confusion"]) >= 0
    write_plan(tmp_path / "plan.html", None, None, batch, "<b>")
    page = (tmp_path / "plan.html").read_text()
    assert "<script" not in page and "&lt;b&gt;" in page and "What to transcribe next" in page


def test_sentences_to_translate(marian, tmp_path, monkeypatch):
    loaded = load_model(str(marian))
    pairs = [Pair("ada dab"), Pair("ada dab gab fed", target="not used", domain="sky"), Pair("cid bid")]
    monkeypatch.setattr("adapt.planning.candidates.decode_examples", lambda *given: ["bea cid"] * len(given[2]))
    for criterion in ("combined", "coverage"):
        batch = next_examples(loaded, pairs, number=2, criterion=criterion, units="words")
        assert batch.kind == "translate" and len(batch.chosen) == 2 and batch.unit == "examples"
    assert {one.number for one in batch.chosen} == {1, 2}
    manifest, _ = write_batch(tmp_path, batch)
    written = read_sources(manifest)[0]
    assert {pair.source for pair in written} == {"ada dab gab fed", "cid bid"} and not any(p.target for p in written)
    with pytest.raises(InputError, match="Sentences have no minutes"):
        next_examples(loaded, pairs, minutes=5)


def test_sentences_to_read_are_chosen_by_the_errors_on_known_recordings(loaded, speech):
    known = read_manifest(speech["high_test"])[0]
    sentences = ["ab ab", "cd ce", "ab cd e", "dd dd dd"]
    batch = next_sentences(loaded, sentences, known, number=2)
    assert batch.kind == "read" and {"confusion"} == set(batch.candidates[0].scores)
    plain = next_sentences(loaded, sentences, number=2, criterion="coverage", units="words")
    assert 2 in {one.number for one in plain.chosen}  # it has the most new words
    timed = next_sentences(loaded, ["x" * 840, "x" * 84], minutes=0.5)  # 60 s and 6 s
    assert [one.number for one in timed.chosen] == [1] and timed.spent == pytest.approx(0.1)
    with pytest.raises(InputError, match="needs known recordings"):
        next_sentences(loaded, sentences, number=1, criterion="confusion")
    with pytest.raises(InputError, match="needs audio"):
        next_sentences(loaded, sentences, number=1, criterion="gradient")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either minutes or number"),
        ({"minutes": 1, "number": 1}, "either minutes or number"),
        ({"minutes": 0.001}, "No candidate fits into 0.001 minutes"),
        ({"number": 0}, "number must be"),
        ({"number": 1, "criterion": "best"}, "criterion must be one of"),
        ({"number": 1, "units": "bytes"}, "units must be one of"),
    ],
)
def test_refuses_budgets_and_names_that_make_no_sense(loaded, pool, options, said):
    with pytest.raises(InputError, match=said):
        next_examples(loaded, pool[:2], **{"criterion": "coverage", **options})


def test_reads_candidates_without_what_is_labelled(loaded, tmp_path):
    manifest = write_tones(tmp_path, "all", 4)
    utterances = read_manifest(manifest)[0]
    labelled = Splits(train=(utterances[0],), test=(utterances[2],))
    found = read_candidates(loaded, [manifest, tmp_path / "all"], labelled=labelled)
    assert [one.audio_filepath.name for one in found] == ["001.wav", "003.wav"]
    with pytest.raises(InputError, match="all 4 candidates are labelled already"):
        read_candidates(loaded, manifest, labelled=Splits(train=tuple(utterances)))
    with pytest.raises(InputError, match="Give one of them"):
        read_candidates(loaded, manifest, sentences=tmp_path / "lines.txt")
    (tmp_path / "lines.txt").write_text("one\n\ntwo\none\n")
    assert read_candidates(loaded, sentences=tmp_path / "lines.txt") == ["one", "two"]
