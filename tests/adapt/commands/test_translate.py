"""`innertune translate`: one output line per input line, from arguments, files and standard input."""

import io
import sys

import pytest

from adapt.errors import InputError
from adapt.models.checkpoint import load_model


@pytest.fixture
def translate(innertune, marian, capsys):
    def run(*options):
        capsys.readouterr()
        innertune("translate", f"model.pretrained={marian}", *options)
        return capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def expected(marian):
    from adapt.data.loader import collate
    from adapt.data.pairs import Pair

    model = load_model(str(marian)).model
    pairs = [Pair(text) for text in ("ada dab", "cid", "fed had bid")]
    return [model.task.decode(model, collate([(pair, model.reader.read(pair))]))[0] for pair in pairs]


def test_a_sentence_and_several(translate, expected):
    assert translate("text=ada dab").out == expected[0] + "\n"
    assert translate("text=[ada dab,cid,fed had bid]").out.splitlines() == expected


def test_lines_of_a_file_keep_their_places(translate, expected, tmp_path):
    """Line n of the output is the translation of line n, empty lines included."""
    (tmp_path / "lines.txt").write_text("ada dab\n\ncid\r\nfed had bid\n", encoding="utf-8")
    with pytest.raises(InputError, match="(?s)lines.txt:2: .*empty.*on_error=skip"):
        translate(f"file={tmp_path / 'lines.txt'}")
    captured = translate(f"file={tmp_path / 'lines.txt'}", "on_error=skip", "loader.batch_tokens=5")
    assert captured.out.split("\n") == [expected[0], "", expected[1], expected[2], ""]
    assert "Skipped" in captured.err and "lines.txt:2" in captured.err


def test_tables_and_standard_input(translate, expected, tmp_path, monkeypatch):
    (tmp_path / "a.tsv").write_text("source\tdomain\nada dab\tx\ncid\ty\n")
    assert translate(f"file={tmp_path / 'a.tsv'}").out.splitlines() == expected[:2]
    (tmp_path / "a.jsonl").write_text('{"source": "cid"}\n')
    assert translate(f"file={tmp_path / 'a.jsonl'}").out.splitlines() == expected[1:2]
    data = io.BytesIO(b"\xef\xbb\xbfcid\nada dab\n")  # with a byte order mark
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    assert translate("file=-").out.splitlines() == [expected[1], expected[0]]


@pytest.mark.parametrize("place", ["file", "stdin"])
def test_only_newlines_end_a_line(translate, tmp_path, monkeypatch, place):
    """Carriage returns and Unicode's line separators are part of a sentence."""
    text = "ada dab\rcid\nfed\u2028had\x85bid\n".encode()
    (tmp_path / "lines.txt").write_bytes(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    out = translate("file=-" if place == "stdin" else f"file={tmp_path / 'lines.txt'}").out
    assert out.count("\n") == 2 and out.endswith("\n")


@pytest.mark.parametrize("kind", ["jsonl", "tsv"])
def test_bad_lines_of_tables_keep_their_places(translate, expected, tmp_path, kind):
    lines = {
        "jsonl": ['{"text": "ada"}', '{"source": "cid"}', "", '{"source": "\\ud800"}', '{"source": "ada dab"}', "{"],
        "tsv": ["source\tdomain", "\tx", "cid\tx", "ada", "\t", "ada dab\tx", "\t"],
    }
    path = tmp_path / f"a.{kind}"
    path.write_text("\n".join(lines[kind]) + "\n")
    captured = translate(f"file={path}", "on_error=skip")
    assert captured.out.split("\n") == ["", expected[1], "", "", expected[0], "", ""]
    assert "half of a character" in captured.err or kind == "tsv"
    assert captured.err.count("Skipped: ") == 4 and f"a.{kind}:{1 if kind == 'jsonl' else 2}:" in captured.err


def test_bad_input_is_named(translate, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="nothing to translate: give text="):
        translate()
    with pytest.raises(InputError, match="file=gone.txt: there is no such file"):
        translate("file=gone.txt")
    (tmp_path / "latin.txt").write_bytes("Gr\xfc\xdfe".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8 text .*byte 2"):
        translate(f"file={tmp_path / 'latin.txt'}")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cid\n\xff\n")))
    with pytest.raises(InputError, match="file=- is not UTF-8 text .*byte 4"):
        translate("file=-")
    long = " ".join(["ada"] * 60)
    with pytest.raises(InputError, match="text 1: the source has .* tokens, but the network reads at most 64"):
        translate(f"text={long}")
