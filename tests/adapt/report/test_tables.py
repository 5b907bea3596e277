"""Tables for loggers: every row fits its columns and has the values of the comparison."""

from dataclasses import replace

from adapt.comparison.results import Comparison
from adapt.report.tables import RECORDING, Table, tables


def rows(table: Table) -> list[dict[str, object]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_values_are_those_of_the_comparison(comparison: Comparison) -> None:
    found = {name: rows(table) for name, table in tables(comparison).items()}
    assert list(found) == ["result", "groups", "words", "transcripts", "layers", "causes"]
    target = found["result"][0]
    assert (target["set"], target["metric"], target["before"], target["after"]) == ("target", "WER", 0.465, 0.182)
    assert (target["difference_low"], target["difference_high"], target["examples"]) == (-0.309, -0.257, 412)
    assert len(found["result"]) == 4 and len(found["groups"]) == 8
    word = found["words"][0]
    assert (word["word"], word["correct_before"], word["correct_after"], word["significant"]) == ("straße", 3, 31, True)
    assert word["substitutions_before"] == "stras 20, - 4"
    assert [layer["changed"] for layer in found["layers"]] == [0, 64_731, 7_453]
    cause = found["causes"][0]
    assert (cause["part"], cause["applied"], cause["reverted"], cause["before"]) == ("net.3", 0.23, 0.41, 0.46)
    (transcript,) = found["transcripts"]
    assert (transcript["before"], transcript["after"]) == ("di nu", "die strasse") and transcript[RECORDING] == b"mp3"


def test_missing_parts_have_no_table(comparison: Comparison) -> None:
    less = replace(comparison, causes=None, weights=None, transcripts=[], words={}, groups=[], audio_clips={})
    assert list(tables(less)) == ["result"]
    assert tables(replace(less, sets={})) == {}
