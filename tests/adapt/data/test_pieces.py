"""Long audio is cut where nobody speaks, and sounds that are no speech give nothing to read."""

import numpy as np
import pytest

from adapt.data.loudness import tightened
from adapt.data.pieces import LOOSE, TIGHT, cut_recording
from adapt.data.recording import Recording
from adapt.data.speech_detection import FRAME, speech_spans

RATE = 16_000


def spoken(text: str) -> np.ndarray:
    pytest.importorskip("espeakng_loader")
    from adapt.data.synthetic.accents import _resample
    from adapt.data.synthetic.espeak import speak

    return (_resample(speak(text, "en-us", "m3", 160).samples) / (1 << 15)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.fixture(scope="module")
def utterance():
    return spoken("the farmer sold his brown horse to my uncle")


@pytest.fixture(scope="module")
def strung(utterance):
    """Three times the same utterance, after 1, 1 and 5 seconds of silence."""
    parts = [silence(1), utterance, silence(1), utterance, silence(5), utterance, silence(1)]
    return Recording(np.concatenate(parts), RATE)


def test_pieces_are_the_utterances(strung, utterance):
    long = len(utterance) / RATE
    starts = [1.0, 2 + long, 7 + 2 * long]
    cuts = cut_recording(strung, 20.0, silences=TIGHT)
    assert cuts.seconds == pytest.approx(strung.duration)
    assert [piece.start for piece in cuts.pieces] == pytest.approx(starts, abs=0.1)
    assert [piece.end for piece in cuts.pieces] == pytest.approx([start + long for start in starts], abs=0.1)
    first, last = cut_recording(strung, 20.0, silences=LOOSE).pieces  # 5 s of silence are too long to be read
    assert first.start == pytest.approx(0.8, abs=0.1) and first.end == pytest.approx(2.2 + 2 * long, abs=0.1)
    assert len(first.speech) > len(last.speech) and last.end == pytest.approx(strung.duration - 0.8, abs=0.1)


def test_no_piece_is_longer_than_asked_and_nothing_is_lost(utterance):
    without_pauses = Recording(np.concatenate([utterance] * 6), RATE)
    for vad in (True, False):
        pieces = cut_recording(without_pauses, 4.0, vad).pieces
        assert max(piece.end - piece.start for piece in pieces) <= 4.0
        assert pieces[0].left <= 0.2 and pieces[-1].right == pytest.approx(without_pauses.duration, abs=0.1)
        for one, after in zip(pieces, pieces[1:], strict=False):
            assert after.left - one.right < 0.5 and after.start <= after.left and one.right <= one.end


def test_a_cut_within_speech_overlaps():
    """Without any silence, pieces go on beyond the cut, so that no word is cut in two in both of them."""
    noise = np.random.default_rng(0).normal(0, 0.1, 30 * RATE).astype(np.float32)
    pieces = cut_recording(Recording(noise, RATE), 12.0, vad=False).pieces
    for one, after in zip(pieces, pieces[1:], strict=False):
        assert one.right == after.left
        assert one.end - after.start == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["silence", "white", "hum", "melody"])
def test_what_is_no_speech_has_no_pieces(kind):
    time, draw = np.arange(20 * RATE) / RATE, np.random.default_rng(0)
    note = np.arange(RATE // 4) / RATE
    tones = draw.choice([262, 294, 330, 349, 392, 440], 80)
    sounds = {
        "silence": 0 * time,
        "white": draw.normal(0, 0.1, len(time)),
        "hum": sum(0.1 / k * np.sin(2 * np.pi * 50 * k * time) for k in (1, 2, 3)),
        "melody": np.concatenate([0.2 * np.sin(2 * np.pi * one * note) * np.exp(-6 * note) for one in tones]),
    }
    assert cut_recording(Recording(np.asarray(sounds[kind], np.float32), RATE), 20.0).pieces == ()


def test_spans_need_certainty():
    sure, unsure = [0.0] * 10 + [0.95] * 10 + [0.0] * 10, [0.0] * 10 + [0.7] * 10 + [0.0] * 10
    assert speech_spans(np.array(sure), 1.0) == [(10 * FRAME, 20 * FRAME)]
    assert speech_spans(np.array(unsure), 1.0) == []
    assert speech_spans(np.array([0.95] * 10 + [0.2] * 2 + [0.95] * 10), 1.0) == [(0.0, 22 * FRAME)]  # a short dip


def test_the_edges_of_speech_follow_the_loudness():
    loudness = np.full(400, 0.001)
    loudness[120:300] = 0.5  # 0.6 to 1.5 s
    assert tightened([(0.7, 1.6)], loudness) == [(pytest.approx(0.6), pytest.approx(1.5))]
    loud_silence = np.where(loudness < 0.1, 0.3, loudness)
    assert tightened([(0.7, 1.6)], loud_silence) == [(0.7, 1.6)]
