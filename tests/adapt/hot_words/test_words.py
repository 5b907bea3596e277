"""Lists of hot words: what a file and a list name, and what is refused."""

from pathlib import Path

import pytest

from adapt.errors import InputError
from adapt.hot_words.words import HotWord, hot_words, read_words


def test_a_file_has_a_word_or_phrase_and_a_weight_on_each_line(tmp_path: Path):
    path = tmp_path / "words.txt"
    path.write_text("\ufeff# names\nZorvane\n\nPort  Elkin\t2.5\n", encoding="utf-8")
    assert [(word.text, word.weight) for word in hot_words(path)] == [("Zorvane", 1.0), ("Port Elkin", 2.5)]
    assert hot_words(str(path)) == read_words(path)


def test_a_list_a_word_and_nothing():
    assert hot_words(["one", HotWord("two", 2.0), "one"]) == [HotWord("one"), HotWord("two", 2.0)]
    assert hot_words("AC/DC") == [HotWord("AC/DC")]
    assert hot_words(None) == hot_words("auto") == hot_words("off") == hot_words("none") == []


@pytest.mark.parametrize("weight", [-0.1, 5.1, float("nan"), float("inf"), "much", True])
def test_a_weight_outside_the_range_is_refused(weight: float):
    with pytest.raises(InputError, match="weight of 'one' must be a number from 0 to 5"):
        HotWord("one", weight)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Zorvane\t9", r"words.txt:2: the weight of 'Zorvane' must be"),
        ("Zorvane\tmuch", r"words.txt:2: expected a word, and optionally a tab and a number"),
        ("x" * 101, r"words.txt:2: a hot word has 1 to 100 characters"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str):
    path = tmp_path / "words.txt"
    path.write_text(f"good\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_words(path)


def test_other_inputs_are_refused(tmp_path: Path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_words(tmp_path / "latin.txt")
    with pytest.raises(InputError, match="there is no such file"):
        hot_words("missing.txt")
    with pytest.raises(InputError, match="1 to 100 characters, got ' '"):
        hot_words([" "])
    with pytest.raises(InputError, match="too many"):
        hot_words(f"w{number}" for number in range(10_001))
    with pytest.raises(InputError, match="must be a list of words"):
        hot_words(5)  # pyright: ignore[reportArgumentType]
