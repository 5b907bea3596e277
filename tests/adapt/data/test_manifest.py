"""Manifests survive a round trip, and every unusable line is reported with its number."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.example import Phoneme
from adapt.data.manifest import Utterance, read_manifest, write_manifest
from adapt.errors import InputError


def write(folder, *lines):
    path = folder / "m.jsonl"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def row(**change):
    return json.dumps({"audio_filepath": "a.wav", "text": "hello", **change})


def fields(utterance):
    names = ("audio_filepath", "text", "duration", "offset", "speaker", "accent", "lang", "phonemes", "extra")
    return {name: getattr(utterance, name) for name in names}


FULL = Utterance(
    Path("/audio/b.wav"), "\u043f\u0440\u0438\u0432\u0435\u0442 \"you\"\\", 1.25, 0.5, "s1", "us", "en",
    (Phoneme("h", 0.0, 0.25), Phoneme("\u0259", 0.25, 1.0)), {"age": 3, "tags": ["x", {"y": 1.5}], "ok": False},
)  # fmt: skip


def test_roundtrip(tmp_path):
    written = [FULL, Utterance(tmp_path / "sub" / "a.wav", "plain"), Utterance(tmp_path / "a.wav", "x", duration=2)]
    write_manifest(tmp_path / "m.jsonl", iter(written))
    found, problems = read_manifest(tmp_path / "m.jsonl")
    assert [fields(u) for u in found] == [fields(u) for u in written] and problems == []
    assert [u.where for u in found] == [f"{tmp_path / 'm.jsonl'}:{n}" for n in (1, 2, 3)]


WORDS = st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip)
FACTS = st.dictionaries(st.text("abc_", min_size=1), WORDS | st.integers() | st.booleans() | st.lists(WORDS))


@given(WORDS, st.none() | WORDS, FACTS)
def test_any_text_comes_back(tmp_path_factory, text, speaker, extra):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write_manifest(path, [Utterance(Path("/a.wav"), text, speaker=speaker, extra=extra)])
    (found,), problems = read_manifest(path)
    assert (found.text, found.speaker, found.extra, problems) == (text, speaker, extra, [])


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_a_line_ends_where_json_lines_do(tmp_path, separator):
    """Unicode's other line separators can be part of a text, verbatim or escaped."""
    written = [Utterance(Path("/a.wav"), f"one{separator}two"), Utterance(Path("/b.wav"), "three")]
    write_manifest(tmp_path / "m.jsonl", written)
    found, problems = read_manifest(tmp_path / "m.jsonl")
    assert [u.text for u in found] == [f"one{separator}two", "three"] and problems == []


def test_relative_paths_are_of_the_manifests_folder(tmp_path, monkeypatch):
    path = write(tmp_path, row(), row(audio_filepath="../up/b.wav"), row(audio_filepath="/abs/c.wav"))
    expected = [tmp_path / "a.wav", tmp_path / "../up/b.wav", Path("/abs/c.wav")]
    assert [u.audio_filepath for u in read_manifest(path)[0]] == expected
    monkeypatch.chdir(tmp_path)
    assert [u.audio_filepath.resolve() for u in read_manifest("m.jsonl")[0]] == [p.resolve() for p in expected]


def test_a_folder_moves_with_its_audio(tmp_path):
    (tmp_path / "one").mkdir()
    inside, outside = tmp_path / "one" / "wav" / "a.wav", tmp_path / "b.wav"
    write_manifest(tmp_path / "one" / "m.jsonl", [Utterance(inside, "x"), Utterance(outside, "y")])
    (tmp_path / "one").rename(tmp_path / "two")
    found, _ = read_manifest(tmp_path / "two" / "m.jsonl")
    assert [u.audio_filepath for u in found] == [tmp_path / "two" / "wav" / "a.wav", outside]


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    (found,), _ = read_manifest(write(tmp_path, row(audio_filepath="~/a.wav")))
    assert found.audio_filepath == Path("/home/someone/a.wav")


def test_unknown_keys_are_kept_and_group(tmp_path):
    (found,), _ = read_manifest(write(tmp_path, row(age=7, speaker=12, accent=None, deep={"a": [1]})))
    assert found.extra == {"age": 7, "deep": {"a": [1]}}
    assert [found.group(key) for key in ("age", "speaker", "accent", "nothing")] == ["7", "12", "unknown", "unknown"]


MALFORMED = {
    "no JSON": "{audio_filepath: a.wav}",
    "cut off": row()[:-5],
    "two objects": row() + row(),
    "a list": "[1, 2]",
    "a text": '"a.wav"',
    "null": "null",
    "no audio": json.dumps({"text": "hello"}),
    "no text": json.dumps({"audio_filepath": "a.wav"}),
    "empty audio": row(audio_filepath=" "),
    "empty text": row(text="\n "),
    "audio is a number": row(audio_filepath=3),
    "text is a list": row(text=["hello"]),
    "text is null": row(text=None),
    "negative duration": row(duration=-1),
    "negative offset": row(offset=-0.5),
    "duration is a text": row(duration="1.5"),
    "duration is true": row(duration=True),
    "duration is NaN": row(duration=float("nan")),
    "duration is infinite": row(duration=float("inf")),
    "offset is infinite": row(offset=float("inf")),
    "duration overflows": '{"audio_filepath": "a.wav", "text": "x", "duration": 1e999}',
    "phonemes are a number": row(phonemes=3),
    "phonemes are a text": row(phonemes="abc"),
    "phonemes of two": row(phonemes=[["a", 0]]),
    "phonemes without times": row(phonemes=[["a", "b", "c"]]),
    "home of nobody": row(audio_filepath="~$a.wav"),
}


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_line_is_a_problem_with_its_number(tmp_path, line):
    path = write(tmp_path, row(text="one"), line, row(text="three"))
    found, problems = read_manifest(path)
    assert [(u.text, u.where) for u in found] == [("one", f"{path}:1"), ("three", f"{path}:3")]
    assert len(problems) == 1 and problems[0].startswith(f"{path}:2: ")


def test_all_problems_are_collected(tmp_path):
    path = write(tmp_path, "3", "[]", row(), "{")
    found, problems = read_manifest(path)
    assert len(found) == 1
    assert [problem.split(" ")[0] for problem in problems] == [f"{path}:{n}:" for n in (1, 2, 4)]


def test_blank_lines_are_skipped(tmp_path):
    path = write(tmp_path, "", row(), "  \t", row(text="two"), "")
    found, problems = read_manifest(path)
    assert [(u.text, u.where) for u in found] == [("hello", f"{path}:2"), ("two", f"{path}:4")] and problems == []


def test_line_ends_of_windows_and_a_last_line_without_one(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(f"{row()}\r\n{row(text='two')}".encode())
    found, problems = read_manifest(path)
    assert [u.text for u in found] == ["hello", "two"] and problems == []


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(row(), encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_manifest(path)[1] == []


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n[]\n"])
def test_a_manifest_without_a_usable_line_is_an_input_error(tmp_path, content):
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(InputError, match="no usable line"):
        read_manifest(tmp_path / "m.jsonl")


def test_an_empty_manifest_is_called_empty(tmp_path):
    with pytest.raises(InputError, match="It is empty"):
        read_manifest(write(tmp_path))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
def test_another_encoding_is_read_with_a_warning_that_names_the_file(tmp_path, encoding, caplog):
    path = tmp_path / f"{encoding}.jsonl"
    path.write_bytes('{"audio_filepath": "a.wav", "text": "caf\u00e9"}'.encode(encoding))
    (found,), problems = read_manifest(path)
    assert found.text == "caf\u00e9" and problems == []
    assert str(path) in caplog.text and "UTF-8" in caplog.text


def test_one_damaged_line_of_utf_8_is_a_problem(tmp_path):
    good = json.dumps({"audio_filepath": "a.wav", "text": "caf\u00e9 na\u00efve"}, ensure_ascii=False).encode()
    (tmp_path / "m.jsonl").write_bytes(b"\n".join([good, row(text="x").encode()[:-2] + b'\xff"}', good]))
    found, problems = read_manifest(tmp_path / "m.jsonl")
    assert len(found) == 2 and problems == [
        f"{tmp_path / 'm.jsonl'}:2: the line is not UTF-8 text. Correct it, or save it as UTF-8."
    ]


def test_a_missing_manifest_and_a_folder_are_input_errors(tmp_path):
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(InputError, match="There is no manifest"):
            read_manifest(path)


HUGE = "9" * 5000
STRANGE = {
    "half a character": r'{"audio_filepath": "a.wav", "text": "x", "speaker": "anna \ud83d"}',
    "half a character deep inside": r'{"audio_filepath": "a.wav", "text": "x", "tags": [{"a": ["\udc00"]}]}',
    "half a character in a key": r'{"audio_filepath": "a.wav", "text": "x", "\ud83d": 1}',
    "half a character in a path": r'{"audio_filepath": "a\ud83d.wav", "text": "x"}',
    "deep lists": row()[:-1] + ', "deep": ' + "[" * 5000 + "]" * 5000 + "}",
    "deep enough to break what writes it": row()[:-1] + ', "deep": ' + "[" * 200 + "]" * 200 + "}",
    "deep objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "an integer of 5,000 digits": row()[:-1] + f', "age": {HUGE}}}',
    "a duration of 5,000 digits": row()[:-1] + f', "duration": {HUGE}}}',
    "NaN": row()[:-1] + ', "age": NaN}',
    "infinity": row()[:-1] + ', "age": -Infinity}',
    "a number that overflows": row()[:-1] + ', "age": [1e999]}',
    "a key twice": row()[:-1] + ', "text": "other"}',
    "a path with NUL": r'{"audio_filepath": "a\u0000.wav", "text": "x"}',
    "a name of 300 characters": row(audio_filepath="x" * 300 + ".wav"),
    "a path of 5,000 characters": row(audio_filepath="x/" * 2500 + ".wav"),
    "an address": row(audio_filepath="https://example.org/a.wav"),
    "start and offset": row(start=1, offset=2),
    "an end before the start": row(start=3, end=2),
    "a duration that contradicts the end": row(start=1, end=2, duration=5),
    "a long line": row(text="x" * ((1 << 24) + 1)),
}


@pytest.mark.parametrize("line", STRANGE.values(), ids=STRANGE.keys())
def test_a_strange_line_is_a_problem_with_its_number(tmp_path, line):
    """What Python's json accepts or crashes on, and later steps cannot write."""
    path = write(tmp_path, row(text="one"), line, row(text="three"))
    found, problems = read_manifest(path)
    assert [u.where for u in found] == [f"{path}:1", f"{path}:3"]
    assert len(problems) == 1 and problems[0].startswith(f"{path}:2: ") and len(problems[0]) < 500
    problems[0].encode()


def test_without_texts(tmp_path):
    path = write(tmp_path, json.dumps({"audio_filepath": "a.wav"}), row(), json.dumps({"text": "x"}))
    found, problems = read_manifest(path, needs_text=False)
    assert [u.text for u in found] == ["", "hello"] and len(problems) == 1


@pytest.mark.parametrize("text", [5, ["a"], {"a": 1}])
def test_without_need_of_texts_a_text_is_still_a_text(tmp_path, text):
    path = write(tmp_path, row(), row(text=text))
    found, problems = read_manifest(path, needs_text=False)
    assert all(isinstance(u.text, str) for u in found) and len(found) + len(problems) == 2


def test_writing_fails_whole(tmp_path):
    path = write(tmp_path, row())

    def broken():
        yield FULL
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_manifest(path, broken())
    assert path.read_text() == row() + "\n" and [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]
