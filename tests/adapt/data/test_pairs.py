"""Sentence pairs survive a round trip in every format, and every unusable line is reported with its number."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.manifest import Splits
from adapt.data.pairs import Pair, read_pairs, read_pairs_file, without_trained, write_pairs
from adapt.errors import InputError


def write(folder, name, *lines, end="\n"):
    path = folder / name
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def row(**change):
    return json.dumps({"source": "a cold", "target": "eine Erkältung", **change}, ensure_ascii=False)


def fields(pair):
    return pair.source, pair.target, pair.domain, pair.id, pair.extra


def test_roundtrip(tmp_path):
    written = [
        Pair(
            'Good "day"\\', "\u0414\u043e\u0431\u0440\u044b\u0439", "news", "n1", {"year": 3, "tags": ["x", {"y": 1.5}]}
        ),
        Pair("plain", "einfach"),
    ]
    write_pairs(tmp_path / "p.jsonl", iter(written))
    found, problems = read_pairs_file(tmp_path / "p.jsonl")
    assert [fields(pair) for pair in found] == [fields(pair) for pair in written] and problems == []
    assert [pair.where for pair in found] == [f"{tmp_path / 'p.jsonl'}:{n}" for n in (1, 2)]


WORDS = st.text(st.characters(exclude_categories=["Cs"])).map(str.strip).filter(bool)
FACTS = st.dictionaries(st.text("abc_", min_size=1), WORDS | st.integers() | st.booleans() | st.lists(WORDS))


@given(WORDS, WORDS, st.none() | WORDS, FACTS)
def test_any_text_comes_back(tmp_path_factory, source, target, domain, extra):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write_pairs(path, [Pair(source, target, domain, extra=extra)])
    (found,), problems = read_pairs_file(path)
    assert (found.source, found.target, found.domain, found.extra, problems) == (source, target, domain, extra, [])


def test_writing_fails_whole(tmp_path):
    path = write(tmp_path, "p.jsonl", row())

    def broken():
        yield Pair("a", "b")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_pairs(path, broken())
    assert path.read_text(encoding="utf-8") == row() + "\n" and [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]


def test_properties_of_a_pair():
    pair = Pair("a", "b", "news", None, {"year": 3}, "x:1")
    assert (pair.text, pair.name, pair.phonemes) == ("b", "x:1", ())
    assert [pair.group(key) for key in ("domain", "year", "id", "speaker")] == ["news", "3", "unknown", "unknown"]
    assert [Pair("a", id="i7", where="x:1").name, Pair("a").name] == ["i7", "a"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_one_content_in_all_formats(tmp_path, end, mark):
    pairs = [("a cold", "eine Erkältung"), ('say "ah"', "sagen Sie „ah“"), ("a\u2028b", "c\x85d")]
    lines = [json.dumps({"source": s, "target": t}, ensure_ascii=False) for s, t in pairs]
    rows = ["target\tsource", *(f"{t}\t{s}" for s, t in pairs)]
    sides = [[s for s, _ in pairs], [t for _, t in pairs]]
    files = [write(tmp_path, "p.jsonl", mark + lines[0], *lines[1:], end=end)]
    files += [write(tmp_path, "p.tsv", mark + rows[0], *rows[1:], end=end)]
    files += [[write(tmp_path, f"p.{n}", mark + side[0], *side[1:], end=end) for n, side in enumerate(sides)]]
    for paths in files:
        found, problems = read_pairs_file(paths)
        assert [(pair.source, pair.target) for pair in found] == pairs and problems == []


def test_the_last_line_may_end_without_a_line_end(tmp_path):
    (tmp_path / "p.jsonl").write_text(row() + "\n" + row(source="x"), encoding="utf-8")
    assert [pair.source for pair in read_pairs_file(tmp_path / "p.jsonl")[0]] == ["a cold", "x"]


def test_columns_of_a_tsv(tmp_path):
    path = write(tmp_path, "p.tsv", "id\tsource\ttarget\tdomain\tyear", "7\ta\tb\tnews\t2020", "\tc\td\t\t", "8\te\tf")
    found, problems = read_pairs_file(path)
    assert [fields(pair) for pair in found] == [
        ("a", "b", "news", "7", {"year": "2020"}),
        ("c", "d", None, None, {}),
    ]
    assert [pair.where for pair in found] == [f"{path}:2", f"{path}:3"]
    assert problems == [f"{path}:4: expected 5 tab-separated columns, got 3."]


@pytest.mark.parametrize("header", ["target\tdomain", "source\ttarget\tsource", "en\tde", "a\tb\tc"])
def test_a_header_that_is_unclear_is_refused(tmp_path, header):
    with pytest.raises(InputError, match="p.tsv:1: expected a header line"):
        read_pairs_file(write(tmp_path, "p.tsv", header, "a\tb"))


MALFORMED = {
    "half a character": r'{"source": "a", "target": "b", "domain": "x \ud83d"}',
    "a key twice": '{"source": "a", "target": "b", "source": "c"}',
    "no JSON": "{source: a}",
    "cut off": row()[:-5],
    "two objects": row() + row(),
    "a list": "[1, 2]",
    "null": "null",
    "no source": json.dumps({"target": "x"}),
    "no target": json.dumps({"source": "x"}),
    "empty source": row(source=" "),
    "empty target": row(target="\n"),
    "target is null": row(target=None),
    "target is a number": row(target=3),
}


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_line_is_a_problem_with_its_number(tmp_path, line):
    path = write(tmp_path, "p.jsonl", row(source="one"), line, row(source="three"))
    found, problems = read_pairs_file(path)
    assert [(pair.source, pair.where) for pair in found] == [("one", f"{path}:1"), ("three", f"{path}:3")]
    assert len(problems) == 1 and problems[0].startswith(f"{path}:2: ")


def test_only_translating_needs_no_target(tmp_path):
    lines = [json.dumps({"source": "a"}), row(source="b", target="c"), row(source="d", target=""), row(target=4)]
    path = write(tmp_path, "p.jsonl", *lines)
    found, problems = read_pairs_file(path, needs_target=False)
    assert [(pair.source, pair.target) for pair in found] == [("a", ""), ("b", "c"), ("d", "")]
    assert len(problems) == 1 and problems[0].startswith(f"{path}:4: needs 'target'")
    assert len(read_pairs_file(write(tmp_path, "p.tsv", "source", "a"), needs_target=False)[0]) == 1


def test_two_files_must_have_the_same_number_of_lines(tmp_path):
    files = [write(tmp_path, "p.en", "a", "b", "c"), write(tmp_path, "p.de", "x", "y")]
    with pytest.raises(InputError, match=r"p.en' has 3 lines and '.*p.de' has 2"):
        read_pairs_file(files)


def test_an_empty_line_of_two_files_is_a_problem_with_its_number(tmp_path):
    source, target = write(tmp_path, "p.en", "a", "", "c", "d"), write(tmp_path, "p.de", "w", "x", " ", "z")
    found, problems = read_pairs_file([source, target])
    assert [(pair.source, pair.target, pair.where) for pair in found] == [
        ("a", "w", f"{source}:1"),
        ("d", "z", f"{source}:4"),
    ]
    assert [problem.split(": ")[0] for problem in problems] == [f"{source}:2", f"{target}:3"]


def test_files_that_cannot_be_used_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_pairs_file(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="There is no file .*: it is a folder"):
        read_pairs_file(tmp_path)
    with pytest.raises(InputError, match="no usable sentence pair.*It is empty"):
        read_pairs_file(write(tmp_path, "empty.jsonl"))
    with pytest.raises(InputError, match="no usable sentence pair.*The first problem: .*:1: "):
        read_pairs_file(write(tmp_path, "bad.jsonl", "{}", "[]"))
    with pytest.raises(InputError, match="got 3 files"):
        read_pairs_file([tmp_path / "a", tmp_path / "b", tmp_path / "c"])


def test_training_pairs_are_removed_from_test_data(tmp_path):
    train = write(tmp_path, "train.jsonl", row(), row(source="b"))
    test = write(tmp_path, "test.jsonl", row(source=" a   cold"), row(target="kalt"), row(source="c"))
    splits = read_pairs(train=train, test=test, validation=train)
    assert [(pair.source, pair.target) for pair in splits.test] == [("a cold", "kalt"), ("c", "eine Erkältung")]
    assert len(splits.train) == 2 and splits.validation == () and len(splits.problems) == 3
    assert splits.problems[2] == (
        f"{test}:1: 'a   cold' is also in the training data ({train}:1). Remove it from one of them."
    )


def test_splits_collect_the_problems_of_all_files(tmp_path):
    train = write(tmp_path, "train.jsonl", row(), "{")
    source = [write(tmp_path, "s.en", "x", ""), write(tmp_path, "s.de", "y", "z")]
    splits = read_pairs(train=str(train), source_test=[str(path) for path in source])
    assert [len(splits.train), len(splits.source_test), len(splits.problems)] == [1, 1, 2]
    assert splits.test == splits.validation == ()


def test_without_training_everything_is_measured():
    splits = Splits(test=(Pair("a", "b"), Pair("a", "b")), problems=("known",))
    assert without_trained(splits) == splits


def test_sentences_without_translations_are_read_only_if_labels_are_not_needed(tmp_path):
    lines, rows = tmp_path / "lines.txt", tmp_path / "rows.jsonl"
    lines.write_text("It is cold.\n\n It rains. \n")
    rows.write_text('{"source": "It snows."}\n{"source": "It rains.", "target": "Es regnet."}\n')
    found = read_pairs(train=str(lines), test=str(rows), labelled=False)
    assert [(one.source, one.target) for one in found.train] == [("It is cold.", ""), ("It rains.", "")]
    assert found.train[1].where == f"{lines}:3"
    assert [one.target for one in found.test] == ["", "Es regnet."]
    assert [one.source for one in read_pairs(train=str(rows)).train] == ["It rains."]
    lines.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(InputError, match="not UTF-8"):
        read_pairs(train=str(lines), labelled=False)
    lines.write_text("\n")
    with pytest.raises(InputError, match="no sentence"):
        read_pairs(train=str(lines), labelled=False)
