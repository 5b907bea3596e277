"""Recordings of any length: words with their times, files that are done once, broken files that are named."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from adapt.api import load_model
from adapt.data.loader import Loader
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.pieces import Cuts, Piece
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.metrics import error_rates
from adapt.models.inference import decode_examples
from adapt.models.whisper_long import LongSegment
from adapt.transcription.assemble import transcript_of
from adapt.transcription.folder import transcribe_into
from adapt.transcription.read_batch import read_sequentially
from adapt.transcription.texts import transcribe_texts
from adapt.transcription.transcribe import transcribe_recordings, transcribe_whole
from adapt.transcription.transcript import Word
from adapt.unlabelled.entropy import adapting, usual

pytestmark = pytest.mark.slow
RATE = 16_000


@pytest.fixture(scope="module")
def strung():
    """A minute and a half of synthetic speech with pauses; its words with their starts in seconds."""
    pytest.importorskip("espeakng_loader")
    import random

    from adapt.data.synthetic.accents import TEST_VARIANTS, _resample
    from adapt.data.synthetic.espeak import speak
    from adapt.data.synthetic.sentences import ENGLISH

    draw, parts, words, at = random.Random(0), [], [], 0.0
    while at < 90:
        pause = draw.uniform(0.4, 2)
        text = ENGLISH.sentence(draw)
        speech = speak(text, "en-us", draw.choice(TEST_VARIANTS), draw.randint(140, 190))
        samples = (_resample(speech.samples) / (1 << 15)).astype(np.float32)
        parts += [np.zeros(round(pause * RATE), np.float32), samples]
        at += round(pause * RATE) / RATE
        place = 0
        for word in text.split():
            words.append((word, at + dict(speech.words).get(place, np.nan)))
            place += len(word) + 1
        at += len(samples) / RATE
    return Recording(np.concatenate(parts), RATE, name="strung"), words


@pytest.fixture(scope="module")
def us_english():
    return load_model("us-english")


def test_words_of_a_long_recording(strung, us_english):
    recording, words = strung
    (made,) = us_english.transcripts(recording)
    assert made.seconds == pytest.approx(recording.duration)
    rates = error_rates([" ".join(word for word, _ in words)], [made.text]).values()
    assert rates["wer"] < 0.15 and made.text == " ".join(word.text for word in made.words)
    by_text = {}
    for word in made.words:
        by_text.setdefault(word.text, []).append(word.start)
    late = [min(np.abs(np.array(by_text[word]) - start)) for word, start in words if word in by_text and start == start]
    assert len(late) > 0.8 * len(words)
    assert np.median(late) < 0.04 and np.mean(np.array(late) < 0.08) > 0.95
    assert all(0 <= word.confidence <= 1 for word in made.words)
    assert us_english.transcribe(recording) == [made.text]  # longer than a minute: read in pieces too


def test_short_recordings_are_read_as_before(us_english):
    """Without times, a recording that fits is read as a whole, as noise is: there is no detector in the way."""
    noise = Recording(np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32), RATE)
    model = us_english.model
    with torch.inference_mode():
        emissions = model(torch.from_numpy(noise.samples)[None], torch.tensor([3 * RATE]))
    assert us_english.transcribe(noise) == [model.decode(emissions.log_probs[0].argmax(-1).tolist())]
    (made,) = us_english.transcripts(noise)
    assert made.words == () and made.text == ""


def test_the_number_of_recordings_in_a_batch_changes_nothing(strung, us_english):
    recording, _ = strung
    part = Recording(recording.samples[: 20 * RATE], RATE)
    for bound in (3.0, 200.0):
        found = dict(transcribe_recordings(us_english.model, [part, recording], loader=Loader(batch_seconds=bound)))
        assert [word.text for word in found[0].words] == [
            word.text for word in found[1].words[: len(found[0].words)]
        ] or found[0].words[-1].end > 19


def test_whisper_reads_windows_and_has_sequential_decoding(whisper, strung):
    recording, _ = strung
    part = Recording(recording.samples[: 8 * RATE], RATE)
    model = load_model(whisper, language="en")
    (made,) = model.transcripts(part)  # its windows last two seconds
    assert made.language == "en"
    times = [time for segment in made.segments for word in segment.words for time in (word.start, word.end)]
    assert all(0 <= time <= 8 for time in times)
    ctc = load_model("us-english")
    with pytest.raises(InputError, match="decoding=sequential is Whisper's own decoding"):
        ctc.transcripts(part, decoding="sequential")
    with pytest.raises(InputError, match="decoding must be"):
        ctc.transcripts(part, decoding="both")


def test_words_in_an_overlap_count_once_and_silence_belongs_to_no_word():
    pieces = (
        Piece(0.0, 11.0, 0.0, 10.0, ((0.0, 11.0),)),
        Piece(9.0, 20.0, 10.0, 20.0, ((9.0, 14.0), (16.0, 20.0))),
    )
    first = ("a b", (Word("a", 1.0, 2.0, 0.9), Word("b", 9.6, 10.2, 0.9)))
    second = ("b c", (Word("b", 0.6, 1.2, 0.9), Word("c", 5.5, 8.0, 0.9)))
    made = transcript_of("x", Cuts(20.0, pieces), [first, second], None)
    assert [(word.text, word.start, word.end) for word in made.words] == [
        ("a", 1.0, 2.0), ("b", 9.6, 10.2), ("c", 16.0, 17.0),
    ]  # fmt: skip
    assert [segment.text for segment in made.segments] == ["a", "b", "c"]


def test_no_word_ends_after_the_recording():
    piece = Piece(0.0, 2.0, 0.0, 2.0, ((0.0, 2.0),))
    read = ("a b", (Word("a", 0.5, 1.0, 0.9), Word("b", 1.5, 2.5, None)))
    (segment,) = transcript_of("x", Cuts(2.0, (piece,)), [read], None).segments
    assert (segment.start, segment.end) == (0.5, 2.0) and [word.end for word in segment.words] == [1.0, 2.0]


@pytest.fixture
def silences(tmp_path):
    """The same name in three folders: silence, quiet noise, and noise that is too loud to be silence."""
    draw = np.random.default_rng(0)
    for name, samples in (
        ("zero", np.zeros(2 * RATE)), ("quiet", draw.normal(0, 0.001, 2 * RATE)), ("loud", draw.normal(0, 0.1, RATE)),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", samples, RATE)
    return tmp_path


def test_silence_has_an_empty_text_unless_everything_is_to_be_read(silences):
    model = load_model("us-english").model
    examples = [Utterance(silences / name / "a.wav", "") for name in ("zero", "quiet", "loud")]
    everything = [text.text for text in transcribe_texts(model, examples, Loader(), vad=False)]
    assert everything[0]  # the model writes a letter for silence
    assert [text.text for text in transcribe_texts(model, examples, Loader())] == ["", "", everything[2]]


def test_recordings_of_one_name_have_files_of_their_own(silences):
    model = load_model("us-english").model
    zero, quiet = (Utterance(silences / name / "a.wav", "") for name in ("zero", "quiet"))

    def run(folder, *given, **options):
        result = transcribe_into(silences / folder, model, given, **options)
        return [str(path.relative_to(silences / folder)) for path in result.written]

    assert run("out", zero, quiet, zero) == ["zero/a.txt", "quiet/a.txt"]
    assert run("out", zero, quiet) == []
    # What another recording has replaced is not taken for done, and does not get its files back.
    assert run("replaced", zero) == run("replaced", quiet, overwrite=True) == ["a.txt"]
    assert run("replaced", zero, quiet) == ["zero/a.txt"]
    # A name that a recording has from an earlier call is not given to another one.
    shutil.copy(silences / "zero" / "a.wav", silences / "a.wav")
    assert run("more", zero) == ["a.txt"]
    assert run("more", Utterance(silences / "a.wav", ""), zero) == ["a.wav.txt"]


@pytest.fixture
def folder(tmp_path, strung):
    recording, _ = strung
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name, start in (("a.wav", 0), ("b.flac", 8), ("sub/a.wav", 16)):
        soundfile.write(tmp_path / "in" / name, recording.samples[start * RATE : (start + 6) * RATE], RATE)
    return tmp_path


def test_a_folder_is_transcribed_once(folder, innertune, capsys):
    def run(*options):
        capsys.readouterr()
        innertune(
            "transcribe", "model.pretrained=us-english", f"audio={folder / 'in'}", f"output={folder / 'out'}", *options
        )
        return capsys.readouterr()

    out, err = run("format=[srt,json]")
    assert out == f"6 files written to {folder / 'out'}, 0 recordings done before.\n"
    assert "b.flac': " in err and " words in 6.0 s." in err
    files = sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*") if path.is_file())
    assert files == ["a.json", "a.srt", "b.json", "b.srt", "sub/a.json", "sub/a.srt", "transcribed.jsonl"]
    before = (folder / "out" / "a.json").read_bytes()
    (folder / "out" / "b.srt").unlink()
    out, err = run("format=[srt,json]")
    assert "2 files written" in out and "2 recordings done before" in out
    assert f"'{folder / 'in' / 'a.wav'}' was transcribed before." in err
    with pytest.raises(InputError, match="there is 'a.json' already, which was not made from .*with this model"):
        run("format=json", "vad=false")
    with pytest.raises(InputError, match="there is 'a.json' already, which was not made from .*with this model"):
        run("format=json", "test_time=utterance")
    assert (folder / "out" / "a.json").read_bytes() == before
    assert "3 files written" in run("format=json", "vad=false", "overwrite=true")[0]
    words = json.loads((folder / "out" / "a.json").read_text())["segments"][0]["words"]
    assert words[0].keys() == {"text", "start", "end", "confidence"}


def test_broken_files_are_named_and_skipped(folder, innertune, capsys):
    (folder / "in" / "b.flac").write_bytes((folder / "in" / "b.flac").read_bytes()[:20_000])
    (folder / "in" / "c.wav").write_text("no sound")
    given = ("transcribe", "model.pretrained=us-english", f"audio={folder / 'in'}", f"output={folder / 'out'}")
    with pytest.raises(InputError, match=r"c\.wav' cannot be read.*\n.*on_error=skip"):
        innertune(*given)
    innertune(*given, "on_error=skip")
    out, err = capsys.readouterr()
    assert "2 files written" in out
    assert "Skipped: " in err and "b.flac" in err and "c.wav' cannot be read" in err
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.txt", "sub", "transcribed.jsonl"]


def test_files_of_the_same_name_keep_apart(folder, innertune):
    shutil.copy(folder / "in" / "a.wav", folder / "in" / "b.wav")
    innertune("transcribe", "model.pretrained=us-english", f"audio={folder / 'in'}", f"output={folder / 'out'}")
    assert {"b.flac.txt", "b.wav.txt", "a.txt"} < {path.name for path in (folder / "out").iterdir()}


def test_options_of_files_need_an_output(folder, innertune):
    given = ("transcribe", "model.pretrained=us-english", f"audio={folder / 'in'}")
    with pytest.raises(InputError, match="format=srt is for files: give output=FOLDER"):
        innertune(*given, "format=srt")
    with pytest.raises(InputError, match="format must be one or several of txt, json, srt, vtt, tsv; got doc"):
        innertune(*given, "format=doc", f"output={folder / 'out'}")


def test_a_whole_recording_is_read_as_the_model_reads_it(base, speech):
    model = load_model(str(base)).model
    examples = list(read_manifest(speech["low_test"])[0][:3])
    expected = decode_examples(model, model.task, examples, Loader())
    for example, text in zip(examples, expected, strict=True):
        found = transcribe_whole(model, example)
        assert found.text == text and [word.text for word in found.words] == text.split()
        assert found.seconds == pytest.approx(model.reader.length(example), abs=0.01)


def test_the_caller_is_outside_of_inference_between_two_results(us_english):
    noise = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32) * 0.01
    recordings = [Recording(samples, RATE, name=str(number)) for number, samples in enumerate(noise)]
    first, second = (transcribe_recordings(us_english.model, recordings, vad=False) for _ in range(2))
    us_english.model.train()
    next(first)
    assert not torch.is_inference_mode_enabled() and us_english.model.training
    next(second)
    first.close()
    second.close()  # in this order, the second once restored what it had found: the mode of the first
    assert not torch.is_inference_mode_enabled() and us_english.model.training
    us_english.model.eval()


def test_pieces_with_test_time_adaptation_are_those_read_alone(strung, us_english):
    samples = strung[0].samples
    recordings = [Recording(samples[start * RATE : (start + 4) * RATE], RATE, name=str(start)) for start in (0, 8)]
    options = replace(usual(us_english.model), steps=1)
    with adapting(us_english.model, "utterance", options):
        alone = [made.text for one in recordings for _, made in transcribe_recordings(us_english.model, [one])]
        together = [made.text for _, made in sorted(transcribe_recordings(us_english.model, recordings))]
    assert together == alone and all(alone)


def test_segments_of_a_language_without_spaces_are_joined_without_them(monkeypatch):
    place = "adapt.transcription.read_batch."
    segments = [LongSegment("你好", 0.0, 1.0), LongSegment("世界", 1.0, 2.0)]
    monkeypatch.setattr(f"{place}sequential_segments", lambda *_: segments)
    given = []
    monkeypatch.setattr(f"{place}attention_words", lambda *arguments: given.append(arguments[3]) or [()])
    model = SimpleNamespace(
        reader=SimpleNamespace(window=30.0), sample_rate=RATE, own_language=None,
        parameters=lambda: iter([torch.zeros(1)]),
    )  # fmt: skip
    for language, text in (("zh", "你好世界"), ("en", "你好 世界")):
        piece = Recording(np.zeros(2 * RATE, np.float32), RATE, extra={"lang": language})
        assert read_sequentially(model, piece)[0] == text and given[-1] == [text]
