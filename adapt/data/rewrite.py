"""Write a reference as a model would: with its punctuation, capitals and digits where its answer has the same words."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from adapt.data.normalisers import Normaliser

_LONGEST = 4  # words of one text that may stand for words of the other, such as "one hundred and five" for "105"


class _Move(NamedTuple):
    """A step of an alignment: how many words of the reference and of the answer it takes, and whether they agree."""

    said: int
    written: int
    same: bool


def rewrite(reference: str, answer: str, normaliser: Normaliser, language: str | None = None) -> str:
    """Return a reference in the writing of an answer.

    Words are aligned with the fewest disagreements after the normaliser. Where they agree, the answer's are taken;
    where they do not, the reference's, with the punctuation around the answer's word. Words that only the answer has
    are left out.

    Args:
        reference: What was said.
        answer: What a model wrote for it.
        normaliser: Decides which words agree.
        language: The language of both.
    """
    said, written = reference.split(), answer.split()
    if not said or not written:
        return reference
    words: list[str] = []
    i = j = 0
    for move in _align(said, written, normaliser, language):
        taken = written[j : j + move.written]
        starts = j == 0 or _ends_sentence(written[j - 1])
        if move.same:
            if words and starts and not _ends_sentence(words[-1]) and said[i][:1].islower():
                taken[0] = taken[0][:1].lower() + taken[0][1:]  # a word before it was missing in the answer
            words += taken
        elif move.said:
            word = said[i]
            if not move.written and words and j == len(written):  # the answer ended here, but the reference goes on
                words[-1] = words[-1].removesuffix(_edges(words[-1])[1])
            if move.written:
                before, after = _edges(taken[0])
                word = f"{before}{_bare(word)}{after}"
            words.append(word)
        i, j = i + move.said, j + move.written
    if written[0][:1].isupper():
        words[0] = words[0][:1].upper() + words[0][1:]
    if not _edges(words[-1])[1]:
        words[-1] += _edges(written[-1])[1]
    return " ".join(words)


def _align(said: Sequence[str], written: Sequence[str], normaliser: Normaliser, language: str | None) -> list[_Move]:
    plain = [_spans(words, normaliser, language) for words in (said, written)]
    cost = [[0.0] * (len(written) + 1) for _ in range(len(said) + 1)]
    best: dict[tuple[int, int], _Move] = {}
    for i in range(len(said) + 1):
        for j in range(len(written) + 1):
            options = [
                (cost[i - move.said][j - move.written] + (0 if move.same else 1), move.said + move.written, move)
                for move in _moves(i, j, *plain)
            ]
            if options:
                cost[i][j], _, best[i, j] = min(options)
    moves, i, j = [], len(said), len(written)
    while i or j:
        moves.append(best[i, j])
        i, j = i - moves[-1].said, j - moves[-1].written
    return moves[::-1]


def _moves(i: int, j: int, said: dict[tuple[int, int], str], written: dict[tuple[int, int], str]) -> list[_Move]:
    """Return the moves that end at word `i` of the reference and word `j` of the answer."""
    moves = [_Move(a, b, False) for a, b in ((1, 1), (1, 0), (0, 1)) if a <= i and b <= j]
    for a in range(1, min(_LONGEST, i) + 1):
        same = (b for b in range(1, min(_LONGEST, j) + 1) if said[i - a, i] == written[j - b, j])
        moves += [_Move(a, b, True) for b in same]
    return moves


def _spans(words: Sequence[str], normaliser: Normaliser, language: str | None) -> dict[tuple[int, int], str]:
    """Return the normalised text of each run of up to `_LONGEST` words, by its start and end."""
    return {
        (start, end): normaliser(" ".join(words[start:end]), language)
        for start in range(len(words))
        for end in range(start + 1, min(len(words), start + _LONGEST) + 1)
    }


def _edges(word: str) -> tuple[str, str]:
    """Return the punctuation before and after a word."""
    bare = _bare(word)
    place = word.find(bare)
    return word[:place], word[place + len(bare) :]


def _bare(word: str) -> str:
    start, end = 0, len(word)
    while start < end and unicodedata.category(word[start])[0] == "P":
        start += 1
    while end > start and unicodedata.category(word[end - 1])[0] == "P":
        end -= 1
    return word[start:end] or word


def _ends_sentence(word: str) -> bool:
    return word.rstrip("\"')]\u201d\u2019")[-1:] in (".", "!", "?", "\u3002", "\u0964", "\u061f")
