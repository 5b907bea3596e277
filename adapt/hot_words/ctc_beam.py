"""Prefix beam search for CTC (Hannun et al. 2014, arXiv 1408.2873), with hot words and a character n-gram."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log1p

import numpy as np

from adapt.hot_words.ngram import BEGIN, NGram
from adapt.hot_words.trie import START, Trie

_LIKELY, _POSSIBLE = -4.0, -14.0  # log-probabilities of units that are tried: of any, and of those of a hot word
_BLANK = -0.05  # where the blank is likelier than this, nothing else is tried
_MARGIN = 12.0  # how much worse than the best prefix one may be, in nats
_NEVER = float("-inf")

# By prefix: the log-probabilities that it ends in a blank, or in its last unit.
_Beams = dict[int, tuple[float, float]]


@dataclass
class Search:
    """What a search favours.

    Args:
        blank: The output unit of the blank.
        trie: The hot words; None for none.
        boundary: The unit between words; None if the model writes none.
        ngram: A character n-gram, whose last unit ends a text; None for none.
        ngram_weight: Its weight.
        beams: The number of prefixes that are kept at each step.
    """

    blank: int
    trie: Trie | None = None
    boundary: int | None = None
    ngram: NGram | None = None
    ngram_weight: float = 0.3
    beams: int = 8


@dataclass
class _Prefixes:
    """All prefixes of a search: the last unit of each, its parent, its state in the trie and its bonus."""

    search: Search
    units: list[int] = field(default_factory=lambda: [BEGIN])
    parents: list[int] = field(default_factory=lambda: [0])
    states: list[int] = field(default_factory=lambda: [START])
    bonuses: list[float] = field(default_factory=lambda: [0.0])
    known: dict[tuple[int, int], int] = field(default_factory=dict)

    def extended(self, prefix: int, unit: int) -> int:
        number = self.known.get((prefix, unit))
        if number is not None:
            return number
        state, bonus, search = START, self.bonuses[prefix], self.search
        if search.trie is not None:
            state, change = search.trie.step(self.states[prefix], unit)
            bonus += change
        if search.ngram is not None:
            bonus += search.ngram_weight * float(search.ngram.scores(self.text(prefix, search.ngram.order))[unit])
        number = len(self.units)
        self.known[prefix, unit] = number
        self.units.append(unit)
        self.parents.append(prefix)
        self.states.append(state)
        self.bonuses.append(bonus)
        return number

    def text(self, prefix: int, most: int | None = None) -> list[int]:
        """Return the last `most` units of a prefix, or all with `BEGIN` before them."""
        found = [self.units[prefix]]
        while prefix and (most is None or len(found) < most):
            prefix = self.parents[prefix]
            found.append(self.units[prefix])
        return found[::-1]

    def final(self, prefix: int) -> float:
        search, bonus = self.search, self.bonuses[prefix]
        if search.trie is not None:
            bonus += search.trie.finish(self.states[prefix], search.boundary)
        if search.ngram is not None:
            bonus += search.ngram_weight * float(search.ngram.scores(self.text(prefix, search.ngram.order))[-1])
        return bonus


def beam_search(log_probs: np.ndarray, search: Search) -> list[int]:
    """Return the output units of the best text.

    Args:
        log_probs: `(time, units)`, the log-probabilities of the output units.
        search: What it favours.
    """
    prefixes = _Prefixes(search)
    beams: _Beams = {0: (0.0, _NEVER)}
    quiet = (log_probs[:, search.blank] > _BLANK).tolist()
    tried = log_probs > _LIKELY
    tried[:, search.blank] = False
    for time, row in enumerate(log_probs.tolist()):
        if quiet[time]:
            beams = _stay(beams, row, prefixes)
        else:
            beams = _kept(_advanced(beams, row, tried[time].nonzero()[0].tolist(), prefixes), prefixes)
    best = max(beams, key=lambda prefix: _sum(*beams[prefix]) + prefixes.final(prefix))
    return prefixes.text(best)[1:]


def _stay(beams: _Beams, row: Sequence[float], prefixes: _Prefixes) -> _Beams:
    """Return the beams after a step in which nothing but the blank is likely."""
    blank, units = row[prefixes.search.blank], prefixes.units
    return {
        one: (_sum(in_blank, in_unit) + blank, in_unit + row[units[one]] if one else _NEVER)
        for one, (in_blank, in_unit) in beams.items()
    }


def _advanced(beams: _Beams, row: Sequence[float], likely: list[int], prefixes: _Prefixes) -> _Beams:
    """Return the beams after a step: each prefix stays as it is, or is followed by one of the `likely` units."""
    units, trie = prefixes.units, prefixes.search.trie
    after = _stay(beams, row, prefixes)
    for prefix, (in_blank, in_unit) in beams.items():
        both, last = _sum(in_blank, in_unit), units[prefix]
        tried = likely
        if trie is not None:
            hot = trie.children[prefixes.states[prefix]]
            tried = [*likely, *(unit for unit in hot if _POSSIBLE < row[unit] <= _LIKELY)] if hot else likely
        for unit in tried:
            score = (in_blank if unit == last else both) + row[unit]
            if score == _NEVER:
                continue
            number = prefixes.extended(prefix, unit)
            old = after.get(number)
            after[number] = (_NEVER, score) if old is None else (old[0], _sum(old[1], score))
    return after


def _kept(beams: _Beams, prefixes: _Prefixes) -> _Beams:
    bonuses = prefixes.bonuses
    ranked = sorted(((_sum(*pair) + bonuses[one], one) for one, pair in beams.items()), reverse=True)
    least = ranked[0][0] - _MARGIN
    return {one: beams[one] for score, one in ranked[: prefixes.search.beams] if score >= least}


def _sum(one: float, other: float) -> float:
    """Return log(exp(one) + exp(other)), to 1e-6."""
    if one < other:
        one, other = other, one
    return one if other < one - 14 or other == _NEVER else one + log1p(exp(other - one))
