"""Test recordings that a model does not read at once are read in pieces, and none of them leaves the scores."""

from dataclasses import replace

import numpy as np
import pytest

from adapt.api import load_model
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.recording import Recording
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.models.inference import decode_examples
from adapt.training.long_recordings import cut_splits
from adapt.transcription import transcribe
from adapt.transcription.any_length import decode_any_length, read_at_once

pytestmark = pytest.mark.slow
RATE = 16_000


@pytest.fixture(scope="module")
def us_english():
    return load_model("us-english")


@pytest.fixture(scope="module")
def sentences():
    pytest.importorskip("espeakng_loader")
    from adapt.data.synthetic.accents import TEST_VARIANTS, _resample
    from adapt.data.synthetic.espeak import speak

    def said(text):
        samples = (_resample(speak(text, "en-us", TEST_VARIANTS[0], 160).samples) / (1 << 15)).astype(np.float32)
        return Recording(samples, RATE, text=text, name=text)

    return [said("the black cat is in the kitchen"), said("see you on monday at the market")]


@pytest.fixture
def long(sentences, monkeypatch):
    """Two sentences with a pause, which count as a long recording; in the text, a word that was not said."""
    monkeypatch.setattr(transcribe, "WHOLE", 4.0)
    pause = np.zeros(RATE, np.float32)
    samples = np.concatenate([pause, sentences[0].samples, pause, sentences[1].samples, pause])
    return Recording(samples, RATE, text=f"{sentences[0].text} zebra {sentences[1].text}", name="long")


def test_long_ones_are_read_in_pieces_and_short_ones_whole(us_english, sentences, long):
    model = us_english.model
    texts = decode_any_length(model, model.task, [sentences[0], long, sentences[1]], Loader())
    alone = decode_examples(model, model.task, sentences, Loader())
    assert texts[::2] == alone
    assert texts[1] == us_english.transcripts(long)[0].text
    assert texts[1].split()[-2:] == ["the", "market"]


def test_the_whole_text_is_scored(us_english, long):
    result = us_english.evaluate([long]).figures()
    words = len(long.text.split())
    assert result["target"]["examples"] == 1
    assert result["target"]["wer"] >= 1 / words  # "zebra" counts


def test_test_sets_are_not_cut(us_english, sentences, long):
    splits = Splits(train=(long,), test=(long,), source_test=(long,))
    cut, found, _ = cut_splits(us_english, us_english.model, splits)
    assert cut.test == cut.source_test == (long,)
    assert len(found) == 1 and long not in cut.train


def test_what_looks_inside_gets_short_ones_only(us_english, sentences, long):
    model = us_english.model
    assert read_at_once(model, {"target": (sentences[0], long), "source": (long,)}) == {"target": [sentences[0]]}


def test_more_than_a_window_is_accepted_in_test_sets_only(whisper):
    model = load_model(str(whisper)).model
    silence = np.zeros(round((model.reader.window + 1) * RATE), np.float32)
    long = Recording(silence, RATE, text="a", name="long", extra={"lang": "en"})
    short = replace(long, samples=long.samples[:RATE])
    splits = Splits(train=(short,), test=(long,))
    assert check_splits(splits, model, long_tests=True)[0].test == (long,)
    with pytest.raises(InputError, match="longer than the"):
        check_splits(splits, model)
    with pytest.raises(InputError, match="longer than the"):
        check_splits(Splits(train=(long,), test=(short,)), model, long_tests=True)
