"""Speech data in the formats that people have: each is read with the same result, and a broken line is named."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from adapt_formats import (
    ALL_SPEECH,
    HEARD,
    audio,
    beside,
    common_voice,
    cut,
    hugging_face,
    jsonl,
    kaldi,
    librispeech,
    nemo_tarred,
    write,
)

from adapt.data.formats import kind_of
from adapt.data.manifest import read_manifest
from adapt.errors import InputError


@pytest.mark.parametrize("made", ALL_SPEECH, ids=lambda made: made.__name__)
def test_every_format_has_the_same_utterances_and_names_its_broken_line(tmp_path, made):
    path, broken = made(tmp_path)
    found, problems = read_manifest(path)
    assert [u.text for u in found] == [text for _, text in HEARD]
    if made not in (nemo_tarred, hugging_face):  # whose audio is unpacked
        assert [u.audio_filepath.name for u in found] == [name for name, _ in HEARD]
    if made not in (beside, librispeech):
        assert {u.speaker for u in found} == {"s1"}
    assert len(problems) == 1 and problems[0].startswith(f"{tmp_path / broken}: "), problems
    assert kind_of(path) == "speech"


@pytest.mark.parametrize("made", [common_voice, nemo_tarred, hugging_face, beside, librispeech],
                         ids=lambda made: made.__name__)  # fmt: skip
def test_the_audio_is_found(tmp_path, made):
    from adapt.data.audio import AudioReader

    found, _ = read_manifest(made(tmp_path)[0])
    levels = [float(AudioReader(8000).read(u).mean()) for u in found]
    if made is not nemo_tarred:
        assert levels == pytest.approx([0.1, 0.2], abs=1e-3)
    assert all(u.audio_filepath.is_file() for u in found)


def test_a_parquet_file(tmp_path):
    import datasets

    folder, _ = hugging_face(tmp_path)
    datasets.load_from_disk(str(folder)).to_parquet(tmp_path / "part.parquet")
    found, problems = read_manifest(tmp_path / "part.parquet")
    assert [u.text for u in found] == [text for _, text in HEARD] and len(problems) == 1
    assert kind_of(tmp_path / "part.parquet") == "speech"


def test_segments_of_a_kaldi_folder(tmp_path):
    kaldi(tmp_path)
    write(tmp_path / "wav.scp", "r1 a.wav\n")
    write(tmp_path / "segments", "u1 r1 0.5 2.0\nu2 r1 2 3.25\nu3 r1 5 4\nu4 r2 1 2\n")
    found, problems = read_manifest(tmp_path)
    assert [(u.offset, u.duration, u.text) for u in found] == [(0.5, 1.5, "guten Tag"), (2.0, 1.25, "noch, einmal")]
    assert [problem.split(": ")[0] for problem in problems] == [f"{tmp_path / 'segments'}:{n}" for n in (3, 4)]


def test_a_command_in_a_kaldi_folder_is_never_executed(tmp_path):
    kaldi(tmp_path)
    write(tmp_path / "wav.scp", f"u1 a.wav\nu2 touch {tmp_path / 'ran'} |\n")
    _, problems = read_manifest(tmp_path)
    assert "never executed" in problems[0] and not (tmp_path / "ran").exists()


def test_the_times_of_cuts_and_supervisions(tmp_path):
    long = cut("a.wav", "eins", start=3.0)
    long["duration"] = 4.0
    second = {**long["supervisions"][0], "id": "s2", "start": 2.0, "duration": 1.0, "text": "zwei"}
    beyond = {**second, "start": 3.5, "text": "drei"}
    long["supervisions"].append(second)
    path = write(tmp_path / "cuts.jsonl", jsonl(long, {**long, "supervisions": [beyond]}))
    found, problems = read_manifest(path)
    assert [(u.text, u.offset, u.duration) for u in found] == [("eins", 3.0, 1.5), ("zwei", 5.0, 1.0)]
    assert len(problems) == 1 and "beyond its cut" in problems[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "MixedCut"}, "a MixedCut is not read"),
        ({"recording": None}, "has no recording"),
        ({"supervisions": []}, "has no supervision"),
        ({"start": None}, "'start' must be a number"),
    ],
)
def test_cuts_that_are_no_plain_recording_are_refused(tmp_path, change, message):
    path = write(tmp_path / "cuts.jsonl", jsonl(cut("a.wav", "x"), {**cut("b.wav", "y"), **change}))
    _, (problem,) = read_manifest(path)
    assert problem.startswith(f"{path}:2: ") and message in problem


def test_start_and_end_are_offset_and_duration(tmp_path):
    path = write(tmp_path / "d.csv", "audio;text;start;end\na.wav;eins;0,5;2,25\na.wav;zwei;2.5;3\na.wav;x;3;2\n")
    found, problems = read_manifest(path)
    assert [(u.offset, u.duration) for u in found] == [(0.5, 1.75), (2.5, 0.5)]
    assert problems == [f"{path}:4: 'end' must be after the start; got 2."]


@pytest.mark.parametrize("column", ["start_ms", "segment-end", "Begin (s) offset", "onset"])
def test_other_times_are_not_ignored(tmp_path, column):
    path = write(tmp_path / "d.csv", f"audio,text,{column},n\na.wav,x,500,3\nb.wav,y,0,3\n")
    found, problems = read_manifest(path)
    assert [u.text for u in found] == ["y"]
    assert problems[0].startswith(f"{path}:2: '{column}' (500) seems to say which part")


def test_a_long_document_on_one_line(tmp_path):
    rows = [{"audio": f"{number}.wav", "text": "x" * 10_000} for number in range(1800)]
    found, problems = read_manifest(write(tmp_path / "d.json", json.dumps(rows)))
    assert len(found) == 1800 and problems == []
    named = {f"u{number}": {"wav": row["audio"], "words": row["text"]} for number, row in enumerate(rows)}
    assert len(read_manifest(write(tmp_path / "e.json", json.dumps(named)))[0]) == 1800


def test_options_for_columns_are_not_ignored_where_there_are_none(tmp_path):
    path, _ = kaldi(tmp_path)
    with pytest.raises(InputError, match="data.text_column is for lists of audio files"):
        read_manifest(path, text_column="x")
    assert read_manifest(path, audio_folder="/elsewhere")[0][0].audio_filepath == Path("/elsewhere/a.wav")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "audio,text,sentence",
            r"'text' and 'sentence' can both be the text. It has: audio, sentence, text. Choose with "
            r"data.text_column=NAME",
        ),
        ("audio,file,text", r"'audio' and 'file' can both be the audio file. .* data.audio_column=NAME"),
        ("sound,text,x", r"needs the key 'audio_filepath' .* It has: sound, text, x. .*data.audio_column=NAME"),
        ("audio,words_spoken,x", r"needs the key 'text' .*data.text_column=NAME"),
        ("audio,text,text", "distinct column names"),
    ],
)
def test_unclear_columns_are_refused_with_the_option_that_chooses(tmp_path, header, message):
    path = write(tmp_path / "d.csv", f"{header}\na,b,c\n")
    with pytest.raises(InputError, match=message):
        read_manifest(path)


def test_options_choose_the_columns(tmp_path):
    path = write(tmp_path / "d.csv", "sound;raw;text;sentence\na.wav;eins;zwei;drei\n")
    for column, text in (("raw", "eins"), ("text", "zwei"), ("Sentence", "drei")):
        (found,), _ = read_manifest(path, audio_column="sound", text_column=column)
        assert (found.audio_filepath, found.text) == (tmp_path / "a.wav", text)
    with pytest.raises(InputError, match="there is no column 'none'. It has: raw, sentence, sound, text"):
        read_manifest(path, audio_column="sound", text_column="none")
    with pytest.raises(InputError, match="text_column must be the name of a column, got 3"):
        read_manifest(path, text_column=3)  # type: ignore[arg-type]


def test_two_equal_texts_are_not_unclear(tmp_path):
    path = write(tmp_path / "d.csv", "audio,text,sentence\na.wav,x,x\nb.wav,y,z\n")
    found, problems = read_manifest(path)
    assert [u.text for u in found] == ["x"] and problems[0].startswith(f"{path}:3: 'text' and 'sentence'")


def test_our_own_keys_win_in_json_lines(tmp_path):
    row = {"audio_filepath": "a.wav", "text": "x", "sentence": "y", "path": "b.wav"}
    (found,), _ = read_manifest(write(tmp_path / "m.jsonl", jsonl(row)))
    assert (found.text, found.extra) == ("x", {"sentence": "y", "path": "b.wav"})


def test_placeholders_are_named_and_replaced(tmp_path):
    rows = {"u1": {"wav": "{data_root}/x/a.wav", "words": "eins"}, "u2": {"wav": "$root/b.wav", "words": "zwei"}}
    path = write(tmp_path / "t.json", json.dumps(rows))
    with pytest.raises(InputError, match=r"begins with the placeholder \{data_root\}.*data.audio_folder=FOLDER"):
        read_manifest(path)
    found, _ = read_manifest(path, audio_folder="/speech")
    assert [str(u.audio_filepath) for u in found] == ["/speech/x/a.wav", "/speech/b.wav"]


def test_a_file_may_be_called_like_a_placeholder(tmp_path):
    audio(tmp_path, "{x}/a.wav")
    (found,), _ = read_manifest(write(tmp_path / "m.jsonl", jsonl({"audio": "{x}/a.wav", "text": "y"})))
    assert found.audio_filepath == tmp_path / "{x}" / "a.wav"


def test_samples_of_speechbrain_are_not_taken_for_seconds(tmp_path):
    path = write(tmp_path / "t.json", json.dumps({"u1": {"wav": "a.wav", "words": "x", "start": 8000, "stop": 16000}}))
    with pytest.raises(InputError, match="numbers of samples"):
        read_manifest(path)


def test_quoted_cells(tmp_path):
    text = 'audio,text\na.wav,"say ""ah""\nnow"\nb.wav,"x"y\nc.wav,z\nd.wav,"never closed\ne.wav,x\n'
    path = write(tmp_path / "d.csv", text)
    found, problems = read_manifest(path)
    assert [(u.text, u.where) for u in found] == [('say "ah"\nnow', f"{path}:2"), ("z", f"{path}:5")]
    assert [problem.split(": ")[0] for problem in problems] == [f"{path}:4", f"{path}:6"]
    tabs = write(tmp_path / "d.tsv", 'audio\ttext\na.wav\t"x" y\nb.wav\t"say ""ah"" now"\nc.wav\t"x"\n')
    assert [u.text for u in read_manifest(tabs)[0]] == ['"x" y', 'say "ah" now', '"x"']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 sheet", "an Excel workbook"),
        (b"RIFF....WAVE", "is audio"),
        (b"\x00\x01\x02" * 50, "not a text file"),
        (b"<html></html>", "XML or HTML"),
        (b"\x1f\x8b broken", "cannot be read"),
        (b"PAR1 broken", "cannot be read"),
        (b'[{"audio": "a.wav", "text": "x"}, {"audio": ', "not JSON"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(tmp_path, content, message):
    (tmp_path / "d.csv").write_bytes(content)
    if content.startswith(b"["):
        found, problems = read_manifest(tmp_path / "d.csv")
        assert len(found) == 1 and message in problems[0]
        return
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / "d.csv")
    assert kind_of(tmp_path / "d.csv") is None


def test_a_damaged_archive_is_named(tmp_path):
    path, _ = nemo_tarred(tmp_path)
    whole = (tmp_path / "audio_0.tar").read_bytes()
    (tmp_path / "audio_0.tar").write_bytes(whole[: len(whole) // 20])
    found, problems = read_manifest(path)
    assert len(found) == 1 and any("audio_0.tar" in problem for problem in problems)


def test_a_tar_with_a_damaged_header_is_not_read_in_part(tmp_path):
    path, _ = nemo_tarred(tmp_path)
    block = io.BytesIO()
    with tarfile.open(fileobj=block, mode="w") as tar:
        for name in ("a.wav", "x.wav"):
            member = tarfile.TarInfo(name)
            member.size = 600
            tar.addfile(member, io.BytesIO(b"a" * 600))
    data = bytearray(block.getvalue())
    data[512 + 1024 : 512 + 1024 + 100] = b"\xff" * 100
    (tmp_path / "audio_0.tar").write_bytes(data)
    _, problems = read_manifest(path)
    assert "damaged" in problems[0]


def test_names_in_an_archive_do_not_leave_the_cache(tmp_path):
    path, _ = nemo_tarred(tmp_path)
    with tarfile.open(tmp_path / "audio_0.tar", "w") as tar:
        member = tarfile.TarInfo("../../a.wav")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"RIFF"))
        link = tarfile.TarInfo("b.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    found, _ = read_manifest(path)
    assert found[0].audio_filepath.is_relative_to(os.environ["INNERTUNE_CACHE"])
    assert not found[0].audio_filepath.is_symlink()


def test_folders_that_are_unclear_are_refused(tmp_path):
    write(tmp_path / "train" / "metadata.csv", "file_name,text\na.wav,x\n")
    with pytest.raises(InputError, match="in the folders train. Give one of these"):
        read_manifest(tmp_path)
    write(tmp_path / "train" / "metadata.jsonl", jsonl({"file_name": "a.wav", "text": "x"}))
    with pytest.raises(InputError, match="several lists"):
        read_manifest(tmp_path / "train")
    write(tmp_path / "saved" / "dataset_dict.json", "{}")
    (tmp_path / "saved" / "test").mkdir()
    with pytest.raises(InputError, match="several splits. Give the folder of one: .*saved/test"):
        read_manifest(tmp_path / "saved")


def test_kinds(tmp_path):
    pairs = write(tmp_path / "p.csv", "source,target\na,b\n")
    tmx = write(tmp_path / "p.xml", "<?xml version='1.0'?>\n<tmx version='1.4'></tmx>")
    nested = write(tmp_path / "n.jsonl", jsonl({"translation": {"en": "a", "de": "b"}}))
    assert [kind_of(path) for path in (pairs, tmx, nested, [pairs, pairs])] == ["pairs"] * 4
    assert [kind_of(path) for path in (tmp_path, tmp_path / "none", [pairs] * 3)] == [None] * 3
