"""Transcripts as files: times are written right, lines have a readable length, and nothing is lost."""

import json

import pytest

from adapt.errors import InputError
from adapt.transcription.formats import as_text, subtitles, write_transcript
from adapt.transcription.transcript import Segment, Transcript, Word


def transcript(*texts: str, each: float = 0.5, joint: str = " ") -> Transcript:
    segments, at = [], 0.0
    for text in texts:
        words = []
        for word in text.split() if joint else text:
            words.append(Word(word, at, at + each, 0.9))
            at += each
        segments.append(Segment(text, words[0].start, words[-1].end, tuple(words)))
    return Transcript("a.wav", at, "en", tuple(segments))


def test_subtitles():
    made = transcript("one two", "three")
    assert as_text(made, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,000\none two\n\n2\n00:00:01,000 --> 00:00:01,500\nthree\n"
    )
    assert as_text(made, "vtt").startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\none two\n")
    assert as_text(made, "tsv") == "start\tend\ttext\n0\t1000\tone two\n1000\t1500\tthree\n"
    assert as_text(made, "txt") == "one two\nthree\n"


def test_hours_and_rounding():
    word = Word("x", 3599.9996, 3661.2, 0.5)
    made = Transcript("a", 3700.0, None, (Segment("x", 3599.9996, 3661.2, (word,)),))
    assert "01:00:00,000 --> 01:01:01,200" in as_text(made, "srt")


def test_nothing_is_shown_past_the_end():
    words = (Word("one", 0.2, 0.4, 0.9), Word("two", 1.9, 2.6, 0.9), Word("three", 3.0, 3.2, 0.9))
    cues = subtitles(Transcript("a", 2.0, None, tuple(Segment(one.text, one.start, one.end, (one,)) for one in words)))
    assert [(cue.start, cue.end) for cue in cues] == [(0.2, 1.2), (1.9, 2.0), (1.0, 2.0)]
    roomy = Transcript("a", 9.0, None, (Segment("two", 1.9, 2.0, (Word("two", 1.9, 2.0, 0.9),)),))
    assert [(cue.start, cue.end) for cue in subtitles(roomy)] == [(1.9, 2.9)]  # a second, as there is room


def test_lines_are_short_and_nothing_is_lost():
    text = "the quick brown fox jumps over the lazy dog and then runs away. " * 6
    cues = subtitles(transcript(text.strip(), each=0.2), width=40, lines=2)
    assert all(len(cue.lines) <= 2 and all(len(line) <= 40 for line in cue.lines) for cue in cues)
    assert " ".join(line for cue in cues for line in cue.lines) == text.strip()
    assert all(one.end <= after.start + 1e-9 for one, after in zip(cues, cues[1:], strict=False))
    assert all(cue.end - cue.start <= 7 for cue in cues)
    assert any(cue.lines[-1].endswith("away.") for cue in cues[:2])  # the end of a sentence ends a subtitle


def test_a_long_word_and_a_language_without_spaces():
    (cue,) = subtitles(transcript("Donaudampfschifffahrt"), width=10)
    assert cue.lines == ("Donaudampfschifffahrt",)
    cues = subtitles(transcript("你好世界你好世界", each=0.2, joint=""), width=4, lines=1)
    assert [cue.lines for cue in cues] == [("你好世界",), ("你好世界",)]
    assert transcript("你好", "世界", joint="").text == "你好世界"
    assert transcript("yes", "no").text == "yes no"


def test_markup_is_text():
    made = transcript("a <b> --> &c")
    assert "a &lt;b&gt; -&gt; &amp;c" in as_text(made, "vtt")
    assert as_text(made, "srt").count("-->") == 1


def test_json_has_all_words(tmp_path):
    made = transcript("one two", "three")
    write_transcript(tmp_path / "a.json", made)
    read = json.loads((tmp_path / "a.json").read_text())
    assert read["text"] == "one two three" and read["seconds"] == 1.5 and read["language"] == "en"
    assert read["segments"][1]["words"] == [{"text": "three", "start": 1.0, "end": 1.5, "confidence": 0.9}]


def test_an_empty_transcript_and_wrong_names(tmp_path):
    empty = Transcript("a", 3.0, None, ())
    assert as_text(empty, "txt") == "" and as_text(empty, "srt") == "" and as_text(empty, "vtt") == "WEBVTT\n"
    with pytest.raises(InputError, match="format must be one or several of txt, json, srt, vtt, tsv; got doc"):
        write_transcript(tmp_path / "a.doc", empty)
    with pytest.raises(InputError, match="width must be"):
        as_text(empty, "srt", width=0)
