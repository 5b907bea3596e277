"""The recipe `accents`: reproducible bytes, disjoint splits, and a cache that is completed after an interruption."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapt.data.manifest import Splits, read_manifest
from adapt.data.synthetic import accents as recipe
from adapt.data.synthetic import espeak
from adapt.data.synthetic.accents import TEST_VARIANTS, TRAIN_VARIANTS, accents
from adapt.errors import InputError

NONE = {"train": 0, "validation": 0, "test": 0, "source_test": 0}


@pytest.fixture(autouse=True)
def wheel():
    pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def splits(tmp_path_factory) -> Splits:
    pytest.importorskip("espeakng_loader")
    cache = tmp_path_factory.mktemp("cache")
    return accents(train=40, validation=10, test=20, source_train=10, source_test=20, cache=cache)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_splits_have_the_requested_sizes(splits):
    parts = (splits.train, splits.validation, splits.test, splits.source_test, splits.source_train)
    assert [len(part) for part in parts] == [40, 10, 20, 20, 10]
    assert {u.accent for u in splits.train + splits.validation + splits.test} == {"en-gb-scotland"}
    assert {u.accent for u in splits.source_train + splits.source_test} == {"en-us"}
    assert [u.text for u in splits.source_train] == [u.text for u in splits.train[:10]]
    for utterance in splits.train + splits.test:
        assert utterance.lang == "en"
        assert utterance.speaker.startswith(f"{utterance.accent}+")
        assert 110 <= utterance.extra["rate"] <= 230 and 30 <= utterance.extra["pitch"] <= 70


def test_the_audio_is_16_khz_and_agrees_with_the_manifest(splits):
    import soundfile

    for utterance in splits.test:
        samples, rate = soundfile.read(utterance.audio_filepath, dtype="int16")
        assert (rate, samples.ndim) == (16_000, 1)
        assert len(samples) / rate == pytest.approx(utterance.duration)
        assert np.abs(samples.astype(int)).max() > 1000
        edges = [time for phoneme in utterance.phonemes for time in (phoneme.start, phoneme.end)]
        assert len(edges) > 20 and edges == sorted(edges) and edges[-1] <= utterance.duration


def test_no_sentence_is_in_two_splits_and_no_test_speaker_in_training(splits):
    texts = [{u.text for u in part} for part in (splits.train[:40], splits.validation, splits.test, splits.source_test)]
    assert len(set.union(*texts)) == sum(map(len, texts)) == 90

    def variants(utterances):
        return {u.speaker.split("+")[1] for u in utterances}

    assert variants(splits.train + splits.validation) <= set(TRAIN_VARIANTS)
    assert variants(splits.test + splits.source_test) <= set(TEST_VARIANTS)
    assert not set(TRAIN_VARIANTS) & set(TEST_VARIANTS)
    assert set(TRAIN_VARIANTS + TEST_VARIANTS) <= set(espeak.variants())


def test_no_seed_trains_on_a_sentence_that_another_tests_on():
    def texts(part: str, seed: int, count: int) -> set[str]:
        plan = recipe._plan("en-us", part, seed)
        return {next(plan).text for _ in range(count)}

    tested = texts("test", 0, 500) | texts("source_test", 0, 500)
    assert not texts("train", 1, 6000) & tested
    assert len(texts("train", 1, 6000)) == 6000
    assert texts("train", 1, 200) != texts("train", 2, 200)


def test_fewer_utterances_are_a_prefix_and_more_are_added(splits, tmp_path):
    few = accents(**{**NONE, "train": 5}, cache=tmp_path)
    more = accents(**{**NONE, "train": 12}, cache=tmp_path)
    again = accents(**{**NONE, "train": 5}, cache=tmp_path)
    assert few.train == more.train[:5] == again.train
    for here, there in zip(more.train, splits.train, strict=False):
        assert here.text == there.text and here.phonemes == there.phonemes
        assert here.audio_filepath.read_bytes() == there.audio_filepath.read_bytes()


@pytest.mark.slow
def test_concurrent_processes_make_the_same_bytes(tmp_path):
    code = (
        "import sys; from adapt.data.synthetic.accents import accents\n"
        "accents(train=8, validation=2, test=2, source_test=2, cache=sys.argv[1])"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "shared")]) for _ in range(2)]
    accents(train=8, validation=2, test=2, source_test=2, cache=tmp_path / "own")
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert content(tmp_path / "shared") == content(tmp_path / "own")


def test_an_interrupted_synthesis_is_completed(tmp_path, monkeypatch):
    whole = accents(**{**NONE, "train": 9}, cache=tmp_path / "whole").train
    speak, spoken = espeak.speak, []

    def stops_after_six(*arguments):
        if len(spoken) == 6:
            raise KeyboardInterrupt
        spoken.append(arguments)
        return speak(*arguments)

    monkeypatch.setattr(recipe, "_BLOCK", 4)
    monkeypatch.setattr(espeak, "speak", stops_after_six)
    with pytest.raises(KeyboardInterrupt):
        accents(**{**NONE, "train": 9}, cache=tmp_path / "cut")
    manifest = next((tmp_path / "cut").rglob("train.jsonl"))
    assert len(read_manifest(manifest)[0]) == 4
    monkeypatch.setattr(espeak, "speak", speak)
    completed = accents(**{**NONE, "train": 9}, cache=tmp_path / "cut").train
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    assert [u.text for u in completed] == [u.text for u in whole]


def test_a_full_cache_needs_no_synthesis(tmp_path, monkeypatch):
    cold = accents(train=6, validation=2, test=2, source_test=2, cache=tmp_path)
    monkeypatch.setattr(espeak, "speak", None)
    assert accents(train=6, validation=2, test=2, source_test=2, cache=tmp_path) == cold


def test_the_environment_sets_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERTUNE_CACHE", str(tmp_path / "there"))
    (utterance,) = accents(**{**NONE, "test": 1}).test
    assert utterance.audio_filepath.is_relative_to(tmp_path / "there" / "accents")


def test_one_accent_makes_the_splits_of_a_base(tmp_path):
    made = accents(source="en-us", target="en-us", train=5, validation=2, test=2, source_test=0, cache=tmp_path)
    assert made.source_test == ()
    assert {u.accent for u in made.train + made.validation + made.test} == {"en-us"}


def test_accents_are_parallel(tmp_path):
    one, other = (accents(**{**NONE, "test": 6}, target=voice, cache=tmp_path).test for voice in ("en-us", "en-029"))
    assert [(u.text, u.extra) for u in one] == [(u.text, u.extra) for u in other]
    assert [u.phonemes for u in one] != [u.phonemes for u in other]


def test_german_voices_speak_german(tmp_path):
    made = accents(**{**NONE, "train": 30, "source_test": 2}, target="de", cache=tmp_path)
    assert {u.lang for u in made.train} == {"de"} and {u.lang for u in made.source_test} == {"en"}
    assert set("äöü") & set("".join(u.text for u in made.train))
    row = json.loads(next(tmp_path.rglob("train.jsonl")).read_text(encoding="utf-8").splitlines()[0])
    assert {"audio_filepath", "duration", "text", "speaker", "accent", "lang", "rate", "pitch", "phonemes"} <= set(row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "en-mars"}, r"voice 'en-mars'.*en-gb-scotland"),
        ({"source": "fr-fr"}, r"voice 'fr-fr'.*Give one of"),
        ({"train": -1}, r"train must be a whole number of at least 0; got -1"),
    ],
)
def test_wrong_arguments_are_input_errors(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        accents(**arguments, cache=tmp_path)


def test_too_many_utterances_are_an_error(tmp_path, monkeypatch):
    from adapt.data.synthetic import sentences

    monkeypatch.setattr(sentences, "ENGLISH", sentences.Grammar(("say {a} again",), {"a": tuple("abcdefghij")}))
    with pytest.raises(InputError, match="distinct 'en' sentences for 'train'"):
        accents(**{**NONE, "train": 50}, cache=tmp_path)


def test_resampling_keeps_a_tone_and_its_length():
    seconds = np.arange(22_050) / 22_050
    tone = np.rint(10_000 * np.hanning(22_050) * np.sin(2 * np.pi * 1000 * seconds)).astype(np.int16)
    there = recipe._resample(tone)
    assert there.dtype == np.int16 and len(there) == 16_000
    seconds = np.arange(16_000) / 16_000
    wanted = 10_000 * np.interp(seconds * 22_050, np.arange(22_050), np.hanning(22_050))
    assert np.abs(there - wanted * np.sin(2 * np.pi * 1000 * seconds)).max() < 2


@pytest.mark.slow
def test_importing_the_recipe_imports_nothing_heavy():
    code = (
        "import sys, adapt.data.synthetic.accents\n"
        "assert not {'torch', 'torchaudio', 'rich', 'espeakng_loader', 'soundfile'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
