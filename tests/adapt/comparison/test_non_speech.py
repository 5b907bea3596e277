"""Sounds without speech are what they say, and a model that writes where nobody speaks is caught."""

from dataclasses import replace

import numpy as np
import pytest

from adapt.comparison.compare import compare
from adapt.comparison.non_speech import NonSpeech, has_loop, measure_non_speech
from adapt.data.loader import Loader
from adapt.data.manifest import Splits, read_manifest
from adapt.data.synthetic.non_speech import non_speech
from adapt.models.checkpoint import load_model
from adapt.report.result_notes import about_non_speech


def heard(*words):
    many = len(words)
    return NonSpeech(("hum",) * many, (6.0,) * many, ("",) * many, words, (False,) * many)


def test_sounds_depend_on_the_seed_and_have_their_levels():
    sounds, same, other = (non_speech(10, 16_000, seed=seed) for seed in (0, 0, 1))
    assert [one.name for one in sounds] == [one.name for one in same]
    for first, again, different in zip(sounds, same, other, strict=True):
        assert np.array_equal(first.samples, again.samples)
        silent = first.name.startswith("silence")
        assert silent == (not first.samples.any()) == np.array_equal(first.samples, different.samples)
        if not silent:
            level = 20 * np.log10(np.sqrt(np.mean(first.samples.astype(float) ** 2)))
            assert level == pytest.approx(float(first.name.split()[-2]), abs=2)  # loud music is clipped
    assert {one.name.partition(",")[0] for one in sounds} == {"silence", "white noise", "pink noise", "hum", "music"}
    assert len({one.duration for one in sounds}) > 2 and non_speech(1, 8_000, "de")[0].group("lang") == "de"
    assert max(one.duration for one in non_speech(10, 8_000, longest=2)) == 2


@pytest.mark.parametrize(
    ("text", "loops"),
    [("so so so so", True), ("so so so", False), ("a b a b a b a b", True), ("x a b a b a b a", False), ("", False)],
)
def test_loops(text, loops):
    assert has_loop(text.split()) == loops


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def splits(speech):
    return Splits(test=tuple(read_manifest(speech["high_test"])[0][:4]))


def test_a_planted_hallucination_is_caught(loaded, base, splits):
    """The second model writes a phrase for every sound without speech, and transcribes speech as before."""
    after = load_model(str(base))

    def decode(model, batch):
        plain = loaded.model.task.decode(model, batch)
        return [text if one.text else "thank you " * 4 for one, text in zip(batch.examples, plain, strict=True)]

    after.model.task = replace(after.model.task, decode=decode)
    found = compare(loaded, after, splits, causes=0, compare_neurons=0, audio_clips=0, non_speech=5)
    assert found.non_speech is not None
    before, now = found.non_speech
    assert now.words == (8,) * 5 and all(now.loops)
    figures = found.figures()["non_speech"]
    assert figures["after"]["loops"] == 5 and figures["after"]["words_per_minute"] == pytest.approx(60 * 40 / 22.5)
    assert figures["difference"][0] > 0 and found.sets["target"].before["wer"] == found.sets["target"].after["wer"]
    assert "adapting makes it write where nobody speaks" in about_non_speech(found)
    assert "does not make it hallucinate" in about_non_speech(replace(found, non_speech=(before, before)))


def test_the_same_model_hears_the_same(loaded, splits):
    one, other = (measure_non_speech(loaded.model, splits.test, Loader(), 5) for _ in range(2))
    assert one == other and one.since(other) == (0.0, 0.0)


def test_few_words_on_one_sound_are_not_clear(loaded, splits):
    found = compare(loaded, loaded, splits, causes=0, compare_neurons=0, audio_clips=0, non_speech=0)
    assert found.non_speech is None and about_non_speech(found) == ""
    pair = replace(found, non_speech=(heard(0, 0, 0, 0, 0), heard(1, 0, 0, 0, 0)))
    assert "is not clear" in about_non_speech(pair)
    fewer = replace(found, non_speech=(heard(3, 2, 3, 2, 3), heard(0, 0, 0, 0, 0)))
    assert "write less" in about_non_speech(fewer)
