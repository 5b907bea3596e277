"""Lengths from headers are those of decoding, are remembered while a file does not change, and keep their order."""

import os
import sqlite3

import numpy as np
import pytest
import soundfile

from adapt.data import audio, lengths, remembered, threads
from adapt.data.audio import AudioReader
from adapt.data.checksums import checksums
from adapt.data.manifest import Utterance
from adapt.errors import InputError

RATE = 16_000


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "SETTLED", -1.0)  # files that were just written count
    return tmp_path / "cache" / "remembered.sqlite"


def written(path, seconds=1.0, rate=RATE, **options):
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)), rate, **options)
    return path


def measured(examples, check="headers", **options):
    return list(lengths.lengths(examples, AudioReader(RATE), check, **options))


def told(found):
    return [str(one) if isinstance(one, InputError) else one for one in found]


@pytest.mark.parametrize(("suffix", "options"), [
    ("wav", {}), ("flac", {}), ("ogg", {}), ("mp3", {}), ("aiff", {}), ("wav", {"subtype": "IMA_ADPCM"}),
    ("wav", {"subtype": "GSM610"}),
])  # fmt: skip
@pytest.mark.parametrize("rate", [16_000, 8_000, 22_050])
def test_headers_give_the_lengths_of_decoding(tmp_path, suffix, options, rate):
    path = written(tmp_path / f"a.{suffix}", 1.37, rate, **options)
    utterances = [
        Utterance(path, "a", **facts)
        for facts in ({}, {"offset": 0.31}, {"offset": 0.31, "duration": 0.5}, {"duration": 1.39})
    ]
    reader = AudioReader(RATE)
    assert measured(utterances) == [len(reader.read(one)) for one in utterances] == measured(utterances, "full")
    assert measured(utterances) == measured(utterances, "full")  # recalled


def broken(tmp_path):
    """Everything that a header tells, and the same without a problem."""
    whole = written(tmp_path / "whole.wav")
    cut, empty, no_audio = (tmp_path / name for name in ("cut.wav", "empty.wav", "text.wav"))
    cut.write_bytes(whole.read_bytes()[:9_000])
    empty.write_bytes(b"")
    no_audio.write_text("no audio at all")
    return [
        Utterance(whole, "a", where="m:1"), Utterance(cut, "a", where="m:2"), Utterance(empty, "a", where="m:3"),
        Utterance(no_audio, "a", where="m:4"), Utterance(tmp_path / "missing.wav", "a", where="m:5"),
        Utterance(whole, "a", offset=2.0, where="m:6"), Utterance(whole, "a", duration=9.0, where="m:7"),
        Utterance(whole, "a", duration=float("nan"), where="m:8"), Utterance(cut, "a", duration=1.0, where="m:9"),
        Utterance(tmp_path, "a", where="m:10"), Utterance(cut, "a", duration=0.1, where="m:11"),
    ]  # fmt: skip


def test_headers_find_the_problems_of_decoding_with_the_same_messages(tmp_path):
    examples = broken(tmp_path)
    found = told(measured(examples))
    assert found == told(measured(examples, "full")) == told(measured(examples))
    assert [isinstance(one, int) for one in found] == [True, *[False] * 9, True]
    assert all(one.startswith(f"m:{n}: ") for n, one in enumerate(found, 1) if isinstance(one, str))


@pytest.mark.parametrize("check", ["headers", "full"])
def test_several_threads_give_what_one_gives(tmp_path, monkeypatch, check):
    examples = [
        one for n in range(5) for one in (*broken(tmp_path), Utterance(written(tmp_path / f"{n}.wav", n + 1), "a"))
    ]
    monkeypatch.setattr(lengths, "_CHUNK", 3)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    several = told(measured(examples, check))
    monkeypatch.setattr(threads, "cores", lambda: 1)
    assert told(measured(examples, check)) == several


def test_what_did_not_change_is_not_read_again(tmp_path, monkeypatch, memory):
    utterance = Utterance(written(tmp_path / "a.wav"), "a")
    first = measured([utterance])
    assert memory.is_file()
    monkeypatch.setattr(lengths, "read_header", lambda _: pytest.fail("read again"))
    assert measured([utterance]) == first == [RATE]


@pytest.mark.parametrize("how", ["other length", "same size, times set back", "replaced", "gone"])
def test_a_changed_file_is_read_again(tmp_path, how):
    path = written(tmp_path / "a.wav")
    utterance, state = Utterance(path, "a"), os.stat(path)
    assert measured([utterance]) == [RATE]
    if how == "other length":
        written(path, 0.5)
    elif how == "same size, times set back":
        content = bytearray(path.read_bytes())
        content[24:28] = (2 * RATE).to_bytes(4, "little")
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert os.stat(path).st_size == state.st_size and os.stat(path).st_mtime_ns == state.st_mtime_ns
    elif how == "replaced":
        os.replace(written(tmp_path / "b.wav", 0.5), path)
    else:
        path.unlink()
    (found,) = measured([utterance])
    assert "no audio file" in str(found) if how == "gone" else found == RATE // 2


def test_a_file_that_was_just_written_is_not_remembered(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(remembered, "SETTLED", 60.0)
    assert measured([Utterance(written(tmp_path / "a.wav"), "a")]) == [RATE]
    assert not memory.exists()


@pytest.mark.parametrize("content", [b"no table", None])
def test_a_damaged_table_changes_nothing(tmp_path, memory, content):
    memory.parent.mkdir()
    memory.mkdir() if content is None else memory.write_bytes(content)
    assert measured([Utterance(written(tmp_path / "a.wav"), "a")]) == [RATE]


def test_a_locked_table_changes_nothing(tmp_path, monkeypatch, memory):
    utterance = Utterance(written(tmp_path / "a.wav"), "a")
    assert measured([utterance]) == [RATE]
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout=0.01))
    other = connect(memory)
    other.execute("BEGIN EXCLUSIVE")
    assert measured([utterance]) == [RATE]
    other.close()


def test_the_table_is_bounded(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(remembered, "MOST", 8)
    for n in range(30):
        remembered.keep({bytes([n]): (b"1", b"2")})
    table = sqlite3.connect(memory)
    assert table.execute("SELECT count(*) FROM entries").fetchone()[0] <= 8
    table.close()
    assert remembered.find([bytes([29])]) == {bytes([29]): (b"1", b"2")}


def test_full_reads_what_it_read_before_unless_it_may_recall_it(tmp_path, monkeypatch):
    utterance = Utterance(written(tmp_path / "a.wav"), "a")
    assert measured([utterance], "full") == [RATE]
    monkeypatch.setattr(lengths, "decoded", lambda *_: (np.zeros(3), RATE))
    assert measured([utterance], "full", recall=True) == [RATE]
    assert measured([utterance], "full") == [3]


def test_a_file_with_a_note_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "antiphase.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    soundfile.write(path, np.stack([noise, -noise], axis=1), RATE)
    assert measured([Utterance(path, "a")], "full") == [RATE]
    monkeypatch.setattr(lengths, "decoded", lambda *_: (np.zeros(3), RATE))
    assert measured([Utterance(path, "a")], "full", recall=True) == [3]


def test_the_reader_does_not_open_a_checked_file_for_its_length(tmp_path, monkeypatch):
    utterance = Utterance(written(tmp_path / "a.wav", 1.5), "a")
    measured([utterance])
    monkeypatch.setattr(audio, "open_audio", lambda _: pytest.fail("opened"))
    assert AudioReader(RATE).length(utterance) == 1.5


def test_checksums_are_those_of_the_files(tmp_path, monkeypatch):
    import hashlib

    paths = [written(tmp_path / f"{n}.wav", n + 1) for n in range(3)]
    expected = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert checksums(paths) == expected == checksums(paths)
    paths[1].write_bytes(b"x" + paths[1].read_bytes()[1:])
    assert checksums(paths) != expected
