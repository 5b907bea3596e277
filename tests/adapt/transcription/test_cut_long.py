"""Long recordings with a text become utterances with the right parts of it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from adapt.api import load_model
from adapt.data.manifest import Splits, Utterance
from adapt.data.normalisers import basic
from adapt.data.pieces import Cuts, Piece
from adapt.data.recording import Recording
from adapt.transcription import cut_long
from adapt.transcription.cut_long import cut_examples
from adapt.transcription.transcript import Word

pytestmark = pytest.mark.slow
RATE = 16_000


@pytest.fixture(scope="module")
def us_english():
    return load_model("us-english")


@pytest.fixture(scope="module")
def sentences():
    """Sentences, with their samples."""
    pytest.importorskip("espeakng_loader")
    from adapt.data.synthetic.accents import _resample
    from adapt.data.synthetic.espeak import speak

    texts = (
        "the farmer sold his brown horse", "my uncle would like dinner with rice", "call a friend in the morning",
        "we flew to chicago in september", "please check the radio again", "the tiny basket belongs to ben",
    )  # fmt: skip
    return [
        (text, (_resample(speak(text, "en-us", "m2", 160).samples) / (1 << 15)).astype(np.float32)) for text in texts
    ]


@pytest.fixture(scope="module")
def long(sentences):
    """More than a minute: the sentences with pauses, five times."""
    parts = [part for _, samples in sentences * 5 for part in (np.zeros(RATE, np.float32), samples)]
    text = " ".join(text for text, _ in sentences * 5)
    return Recording(np.concatenate(parts), RATE, text, name="long", where="m.jsonl:1")


@pytest.fixture(scope="module")
def cut(us_english, long):
    return cut_examples(us_english.model, [long])


def test_parts_have_their_texts(cut, sentences):
    assert not cut.problems
    assert [part.text for part in cut.examples] == [text for text, _ in sentences * 5]
    seconds = [part.duration for part in cut.examples]
    assert seconds == pytest.approx([len(samples) / RATE for _, samples in sentences * 5], abs=0.15)
    assert cut.examples[0].where.startswith("m.jsonl:1, ") and cut.examples[0].where.endswith(" s")


def test_a_text_that_was_not_said_is_left_out_and_named(us_english, long):
    words = long.text.split()
    wrong = replace(long, text=" ".join(words[::-1]))
    cut = cut_examples(us_english.model, [wrong, replace(long, text="")])
    assert len(cut.problems) > 10 * len(cut.examples)
    assert "m.jsonl:1" in cut.problems[0] and "the text does not fit" in cut.problems[0]


def test_short_ones_and_translations_stay_as_they_are(us_english, long, sentences):
    short = Recording(sentences[0][1], RATE, sentences[0][0])
    assert cut_examples(us_english.model, [short]).examples == (short,)
    silent = replace(long, samples=np.zeros_like(long.samples))
    cut = cut_examples(us_english.model, [short, silent])
    assert cut.examples == (short,) and "there is no speech in it" in cut.problems[0]


def test_what_was_found_is_not_searched_again(us_english, long, cut, monkeypatch):
    monkeypatch.setattr(cut_long, "cut_recording", lambda *_, **__: pytest.fail("searched again"))
    again = cut_examples(us_english.model, [long], known=cut.found)
    assert [one.text for one in again.examples] == [one.text for one in cut.examples]


def test_training_cuts_and_keeps_the_cuts(us_english, long, sentences, tmp_path):
    import soundfile

    from adapt import fine_tune, tunings

    soundfile.write(tmp_path / "long.wav", long.samples, RATE)
    short = Recording(sentences[0][1], RATE, sentences[0][0])
    splits = Splits(train=(Utterance(tmp_path / "long.wav", long.text, where="m:1"),), validation=(short,))
    adapted = fine_tune(us_english, splits, tunings.head(), epochs=1, folder=tmp_path / "run")
    assert adapted.training is not None and not adapted.training.skipped
    cuts = json.loads((tmp_path / "run" / "cuts.json").read_text())
    (parts,) = cuts.values()
    assert len(parts) == 30 and parts[0]["text"] == sentences[0][0]
    start = json.loads((tmp_path / "run" / "checkpoints" / "start.json").read_text())
    assert start["data"]["train"]["examples"] == 30


@pytest.mark.parametrize(
    ("text", "heard", "parts"),
    [
        ("one two, three four", [("one", 0), ("two", 0), ("four", 2)], ["one two, three", "", "four"]),
        (
            "今天天气很好。我们去公园吧!", [("今天", 0), ("天气很好。", 1), ("我们去公园", 2)],
            ["今天", "天气很好。", "我们去公园吧!"],
        ),
        ("今天 OK。 我们去", [("今天", 0), ("OK", 1), ("我们去", 2)], ["今天", "OK。", "我们去"]),
    ],
)  # fmt: skip
def test_a_decoder_s_pieces_have_their_parts_of_the_text(monkeypatch, text, heard, parts):
    words = [Word(word, second + 0.1, second + 0.9, 1.0) for word, second in heard]
    monkeypatch.setattr(cut_long, "transcribe_recordings", lambda *_, **__: [(0, SimpleNamespace(words=words))])
    pieces = tuple(Piece(at, at + 1.0, at, at + 1.0, ((at, at + 1.0),)) for at in (0.0, 1.0, 2.0))
    example, model = (
        Recording(np.zeros(3 * RATE, np.float32), RATE, text),
        SimpleNamespace(task=SimpleNamespace(normalise=basic)),
    )
    assert cut_long._texts(model, example, Cuts(3.0, pieces), None) == parts
