"""Sentence pairs in the formats that people have: each is read with the same result, and a broken line is named."""

import pytest
from adapt_formats import PAIR_FILES, PAIRS, TMX

from adapt.data.formats import kind_of
from adapt.data.inputs import read_sources
from adapt.data.pairs import read_pairs, read_pairs_file
from adapt.errors import InputError


@pytest.mark.parametrize("name", PAIR_FILES)
@pytest.mark.parametrize("ending", ["x", "csv"])
def test_every_format_has_the_same_pairs_and_names_its_broken_line(tmp_path, name, ending):
    content, broken, options = PAIR_FILES[name]
    path = tmp_path / f"pairs.{ending}"
    path.write_bytes(content.encode())
    found, problems = read_pairs_file(path, **options)
    assert [(pair.source, pair.target) for pair in found] == PAIRS
    assert len(problems) == 1 and problems[0].startswith(f"{path}:{broken}: "), problems
    assert kind_of(path) == ("pairs" if not options or "tmx" in name or "face" in name else None) or "header" in name
    splits = read_pairs(train=path, **options)
    assert len(splits.train) == 2 and splits.problems == tuple(problems)


def test_utf_16(tmp_path, caplog):
    path = tmp_path / "p.tsv"
    path.write_bytes("source\ttarget\r\na cold\teine Erkältung\r\n".encode("utf-16"))
    assert read_pairs_file(path)[0][0].target == "eine Erkältung" and str(path) in caplog.text
    path = tmp_path / "p.tmx"
    path.write_bytes(TMX.replace("UTF-8", "UTF-16").encode("utf-16"))
    assert len(read_pairs_file(path)[0]) == 2


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(9))
UNSAFE = {
    "an entity bomb": (f"[{BOMB}]", "&a8;", "declares an entity"),
    "an external entity": ('[<!ENTITY x SYSTEM "file:///etc/passwd">]', "&x;", "declares an entity"),
    "a parameter entity": ('[<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]', "x", "declares an entity"),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_entities_are_refused(tmp_path, name):
    declared, used, message = UNSAFE[name]
    path = tmp_path / "p.tmx"
    path.write_text(f'<?xml version="1.0"?>\n<!DOCTYPE tmx {declared}>\n<tmx><header srclang="en"/><body><tu><tuv '
                    f'xml:lang="en"><seg>{used}</seg></tuv></tu></body></tmx>')  # fmt: skip
    with pytest.raises(InputError, match=f"p.tmx:2: .*{message}"):
        read_pairs_file(path)


def test_a_tmx_that_ends_early_keeps_what_came_before(tmp_path):
    path = tmp_path / "p.tmx"
    path.write_text(TMX[: TMX.index("alone")], encoding="utf-8")
    found, problems = read_pairs_file(path)
    assert len(found) == 2 and problems[0].startswith(f"{path}:8: not XML")


def test_languages_that_are_unclear_are_refused(tmp_path):
    path = tmp_path / "p.tmx"
    path.write_text(TMX.replace("en-US", "en-GB", 1).replace('xml:lang="de"', 'xml:lang="de-AT"'), encoding="utf-8")
    with pytest.raises(InputError, match="no text in 'en-GB'. It has de-AT, en-US. Choose with data.source_lang=LANG"):
        read_pairs_file(path)
    assert len(read_pairs_file(path, source_lang="en", target_lang="de")[0]) == 2
    assert read_pairs_file(path, source_column="de", target_column="en")[0][0].target == "a cold"
    path.write_text(TMX.replace("en-US", "*all*", 1), encoding="utf-8")
    with pytest.raises(InputError, match="does not say which language"):
        read_pairs_file(path)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("en,de\na,b\n", {}, "got en, de. Name the columns with data.source_column=NAME"),
        ("English\tGerman\na\tb\n", {}, "expected a header line"),
        ("source,text,x\na,b,c\n", {}, "needs 'target' .* It has: source, text, x. .*data.target_column=NAME"),
        ("source,target\na,b\n", {"source_column": "en"}, "there is no column 'en'. It has: source, target"),
        ('{"translation": {"en": "a", "de": "b"}}\n', {}, "the languages en, de. Choose with data.source_lang=LANG"),
        ('{"audio_filepath": "a.wav", "text": "x"}\n', {}, "needs 'source'"),
    ],
)
def test_unclear_columns_are_refused_with_the_option_that_chooses(tmp_path, content, options, message):
    (tmp_path / "p.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        read_pairs_file(tmp_path / "p.txt", **options)


def test_sources_keep_the_numbers_of_their_lines(tmp_path):
    for name, content in {
        "p.jsonl": '{"source": "a"}\n\n{"x": 1}\n{"source": "b"}\n',
        "p.tsv": "source\na\n\n\nb\n",
    }.items():
        (tmp_path / name).write_text(content)
        pairs, problems = read_sources(tmp_path / name)
        assert [pair.source for pair in pairs] == ["a", "", "", "b"] and len(problems) == (name == "p.jsonl")
