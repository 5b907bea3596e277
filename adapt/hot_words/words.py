"""Lists of hot words: words and phrases with weights, from Python or from a file with one on each line."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.checks import is_number
from adapt.errors import InputError
from adapt.files import file_problem, is_file, user_path

LARGEST = 5.0  # the largest weight
_MOST, _LONGEST, _BYTES = 10_000, 100, 10_000_000  # hot words, characters of one, bytes of a file
_ENDINGS = (".txt", ".tsv", ".csv", ".lst")


@dataclass(frozen=True)
class HotWord:
    """A word or phrase that decoding favours.

    Args:
        text: The word or phrase.
        weight: How much: 1 is the usual strength, 0 none, 5 the largest.
        where: The file and line that it comes from, for messages; empty if it has none.

    Raises:
        InputError: the text is empty or too long, or the weight is out of range.
    """

    text: str
    weight: float = 1.0
    where: str = ""

    def __post_init__(self) -> None:
        place = self.where or "words"
        if not isinstance(self.text, str) or not self.text.strip() or len(self.text) > _LONGEST:
            raise InputError(f"{place}: a hot word has 1 to {_LONGEST} characters, got {str(self.text)[:60]!r}.")
        if not is_number(self.weight) or not 0 <= self.weight <= LARGEST:
            raise InputError(
                f"{place}: the weight of {self.text!r} must be a number from 0 to {LARGEST:g}, got {self.weight!r}. "
                "1 is the usual one."
            )
        object.__setattr__(self, "text", " ".join(self.text.split()))


Words = str | Path | HotWord | Iterable[str | HotWord]


def hot_words(words: Words | None) -> list[HotWord]:
    """Return the hot words that `words` names, without repetitions (the last one counts).

    Args:
        words: A word, several of them, or a file (`read_words`); "auto", "off", "none" and None name none.

    Raises:
        InputError: a word or weight is invalid, or the file cannot be read.
    """
    if words is None or (isinstance(words, str) and words in ("auto", "off", "none")):
        return []
    if isinstance(words, Path) or (isinstance(words, str) and _is_path(words)):
        found = read_words(words)
    elif isinstance(words, (str, HotWord)):
        found = [_one(words)]
    elif isinstance(words, Iterable):
        found = [_one(one) for one in words]
    else:
        raise InputError(f"words must be a list of words, a file, 'auto' or 'off', got {words!r}.")
    if len(found) > _MOST:
        raise InputError(f"words: {len(found)} hot words are too many, expected at most {_MOST}. Keep the rare ones.")
    return list({one.text: one for one in found}.values())


def read_words(path: Path | str) -> list[HotWord]:
    """Read a file with a word or phrase on each line, and optionally a tab and its weight.

    Empty lines, and lines that start with #, are left out.

    Raises:
        InputError: the file cannot be read, or a line has another form; it is named.
    """
    lines = read_text_lines(path, "words", _BYTES)
    return [_of_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if _counts(line)]


def read_text_lines(path: Path | str, argument: str, most: int) -> Sequence[str]:
    """Return the lines of a UTF-8 file of at most `most` bytes. Raises InputError that names the argument."""
    place = user_path(path)
    problem = file_problem(place, "such file")
    if problem is not None:
        raise InputError(f"{argument}={path}: {problem}. Expected a text file.")
    if place.stat().st_size > most:
        raise InputError(f"{argument}={path} is larger than {most // 1_000_000} MB. Give a part of it.")
    try:
        return place.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{argument}={path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _of_line(line: str, where: str) -> HotWord:
    text, tab, weight = line.strip().partition("\t")
    if not tab:
        return HotWord(text, where=where)
    try:
        number = float(weight)
    except ValueError:
        raise InputError(f"{where}: expected a word, and optionally a tab and a number, got {line[:80]!r}.") from None
    return HotWord(text, number, where)


def _one(word: Any) -> HotWord:
    return word if isinstance(word, HotWord) else HotWord(word)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) or text.lower().endswith(_ENDINGS) or is_file(user_path(text))
