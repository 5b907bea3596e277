"""Files, arrays, utterances and sentences become examples, one for each input, and other inputs are refused."""

import numpy as np
import pytest
import soundfile
import torch

from adapt.data.audio import AudioReader
from adapt.data.inputs import as_pairs, as_utterances, find_audio
from adapt.data.kinds import from_row, input_exists, to_row, with_text
from adapt.data.loader import Loader
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.errors import InputError

RATE = 16_000


@pytest.fixture
def samples():
    return np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)


@pytest.fixture
def path(tmp_path, samples):
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    return tmp_path / "a.wav"


def test_audio_of_all_kinds_is_read_the_same(path, samples):
    utterance, recording = Utterance(path, "ab"), Recording(samples, RATE)
    inputs = [path, str(path), samples, torch.from_numpy(samples), utterance, recording]
    examples = as_utterances(inputs, RATE)
    assert len(examples) == len(inputs) and examples[4] is utterance and examples[5] is recording
    reader = AudioReader(RATE)
    for example in examples:
        assert torch.equal(reader.read(example), torch.from_numpy(samples))
        assert reader.length(example) == pytest.approx(0.25) and input_exists(example)


def test_a_single_input_needs_no_list(path, samples):
    for value in (path, str(path), Utterance(path, ""), Recording(samples, RATE)):
        assert len(as_utterances(value)) == 1
    assert as_utterances(samples, RATE)[0].name == "input 1"
    assert as_utterances([]) == []


def test_int16_arrays_are_scaled_and_sample_rates_converted(samples):
    integers = np.round(samples * 32768).astype(np.int16)
    (example,) = as_utterances(integers, RATE)
    assert torch.equal(AudioReader(RATE).read(example), torch.from_numpy(integers / np.float32(32768)))
    assert len(AudioReader(8000).read(example)) == 2000


def test_recordings_go_through_the_loader(samples):
    recordings = [Recording(samples[:length], RATE, str(length)) for length in (1000, 4000, 2000)]
    (batch,) = Loader(batch_seconds=1).evaluation(recordings, AudioReader(RATE))
    assert [example.text for example in batch.examples] == ["4000", "2000", "1000"]
    assert batch.lengths.tolist() == [4000, 2000, 1000]


@pytest.mark.parametrize(
    ("value", "rate", "message"),
    [
        ("gone.wav", None, "input 1: there is no audio file 'gone.wav'"),
        (np.zeros(9), None, "input 1 is an array, and its sample rate is not known"),
        (np.zeros((2, 9)), RATE, r"input 1: expected mono audio of shape \(samples,\), got the shape \(2, 9\)"),
        (np.zeros(0), RATE, "input 1: expected mono audio"),
        (np.zeros(9, dtype=np.int32), RATE, "input 1: expected float or int16 samples, got int32"),
        (np.full(9, np.nan), RATE, "input 1: some samples are NaN"),
        (np.zeros(9), 16e3, "sample_rate must be a whole number from 1000 to 1000000; got 16000.0"),
        (np.zeros(9), 1, "sample_rate must be a whole number from 1000 to 1000000; got 1. It is in Hz"),
        (np.zeros(9), 10**9, "sample_rate must be a whole number from 1000 to 1000000; got 1000000000. It is in Hz"),
        (3.5, RATE, "input 1: expected an audio file, .* got float"),
        (Pair("a"), RATE, "input 1: expected an audio file, .* got Pair"),
    ],
)
def test_unusable_audio_is_an_input_error(value, rate, message):
    with pytest.raises(InputError, match=message):
        as_utterances([value], rate)


def test_a_folder_names_what_it_skips(path, tmp_path, caplog):
    for name in ("b.M4A", "sub/c.webm", "notes.txt", "sub/cover.jpg", ".DS_Store", ".git/d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    utterances, problems = find_audio([tmp_path])
    assert [u.audio_filepath for u in utterances] == [path, tmp_path / "b.M4A", tmp_path / "sub" / "c.webm"]
    assert problems == []
    (message,) = caplog.messages
    assert message.startswith(f"Skipped 2 of 5 files in '{tmp_path}', because their names do not end like audio")
    assert message.endswith(f": {tmp_path / 'notes.txt'}, {tmp_path / 'sub' / 'cover.jpg'}")


def test_a_folder_of_other_files_names_only_some(path, tmp_path, caplog):
    for number in range(9):
        (tmp_path / f"{number}.txt").write_bytes(b"x")
    find_audio([tmp_path])
    assert "5.txt" not in caplog.text and caplog.text.strip().endswith("4.txt and 4 more")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 300 + ".wav", "is too long: it has 304 bytes, and a file name at most 255"),
        ("a\0b.wav", "contains a NUL character"),
        ("~nobody-of-this-name/a.wav", "there is no audio file '~nobody-of-this-name/a.wav'"),
        ("loop.wav", "is a link that leads back to itself"),
    ],
)
def test_impossible_paths_are_input_errors(tmp_path, name, reason):
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    place = name if name.startswith("~") else str(tmp_path / name)
    with pytest.raises(InputError, match=f"input 1: .*{reason}"):
        as_utterances(place)
    if name == "loop.wav":  # there is such a name, so it is a problem that on_error=skip may skip
        assert find_audio([place]) == ([], [f"audio: '{place}' {reason}."])
    else:
        with pytest.raises(InputError, match="audio=.*: there is no such file"):
            find_audio([place])
    utterance = Utterance(tmp_path / name, "", where="m.jsonl:1")
    for use in (AudioReader(RATE).read, AudioReader(RATE).length):
        with pytest.raises(InputError, match=f"m.jsonl:1: .*{'there is no audio file' if name[0] == '~' else reason}"):
            use(utterance)
    assert not input_exists(utterance)


def test_sentences_and_pairs():
    pair = Pair("b", id="7")
    assert as_pairs("a") == [Pair("a", where="text 1")]
    assert as_pairs(["a", pair]) == [Pair("a", where="text 1"), pair]
    with pytest.raises(InputError, match="text 1: expected a text or a Pair, got int"):
        as_pairs(3)
    with pytest.raises(InputError, match="text 2: expected a text or a Pair, got int"):
        as_pairs(["a", 3])


def test_rows_and_texts_of_all_kinds(path, samples):
    for example in (Utterance(path, "a", offset=0.1, duration=0.2), Pair("a", "b")):
        assert from_row(to_row(example)) == example
        assert with_text(example, "c").text == "c"
    recording = Recording(samples, RATE, extra={"accent": "Scottish"})
    assert with_text(recording, "c").text == "c"
    assert (recording.group("accent"), recording.group("speaker"), recording.phonemes) == ("Scottish", "unknown", ())
    with pytest.raises(InputError, match="audio in memory cannot be stored"):
        to_row(recording)
    assert input_exists(Pair("a")) and not input_exists(Utterance(path.with_name("gone.wav"), ""))


def test_bare_audio_is_audio_without_a_list(tmp_path, speech):
    from adapt.data.inputs import is_bare_audio
    from adapt.data.splits import read_splits

    folder = speech["high_test"].parent / "high_test"
    assert is_bare_audio(folder) and is_bare_audio(folder / "000.wav") and is_bare_audio(f"{folder}/*.wav")
    assert not is_bare_audio(speech["high_test"]) and not is_bare_audio(tmp_path) and not is_bare_audio(tmp_path / "no")
    (tmp_path / "a.wav").write_bytes((folder / "000.wav").read_bytes())
    (tmp_path / "a.txt").write_text("abc")
    assert is_bare_audio(tmp_path) and not is_bare_audio(tmp_path, texts_wanted=True)
    found = read_splits(train=folder, test=tmp_path, labelled=False)
    assert len(found.train) == 12 and {one.text for one in found.train} == {""}
    assert [one.text for one in found.test] == ["abc"]
    with pytest.raises(InputError, match="folder without a manifest"):
        read_splits(train=folder)
