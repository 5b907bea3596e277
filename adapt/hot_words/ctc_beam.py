"""Prefix beam search for CTC (Hannun et al. 2014, arXiv 1408.2873), with hot words and a character n-gram."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log1p

import numpy as np

from adapt.hot_words.ngram import BEGIN, NGram
from adapt.hot_words.trie import START, Trie

_LIKELY, _POSSIBLE = -4.0, -9.0  # log-probabilities of units that are tried: of any, and of those of a hot word
_BLANK = -0.02  # where the blank is likelier than this, nothing else is tried
_MARGIN = 12.0  # how much worse than the best prefix one may be, in nats
_NEVER = float("-inf")


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
    beams: dict[int, tuple[float, float]] = {0: (0.0, _NEVER)}  # by prefix: ending in a blank, or in its last unit
    for row in log_probs.tolist():
        beams = _kept(_advanced(beams, row, prefixes), prefixes)
    best = max(beams, key=lambda prefix: _sum(*beams[prefix]) + prefixes.final(prefix))
    return prefixes.text(best)[1:]


def _advanced(
    beams: dict[int, tuple[float, float]], row: Sequence[float], prefixes: _Prefixes
) -> dict[int, tuple[float, float]]:
    search, units = prefixes.search, prefixes.units
    blank, trie = row[search.blank], search.trie
    quiet = blank > _BLANK
    likely = [] if quiet else [n for n, value in enumerate(row) if value > _LIKELY and n != search.blank]
    after: dict[int, tuple[float, float]] = {}
    for prefix, (in_blank, in_unit) in beams.items():
        both, last = _sum(in_blank, in_unit), units[prefix]
        old = after.get(prefix, (_NEVER, _NEVER))
        stays = in_unit + row[last] if last >= 0 else _NEVER
        after[prefix] = (_sum(old[0], both + blank), _sum(old[1], stays))
        if quiet:
            continue
        tried = likely
        if trie is not None:
            hot = trie.children[prefixes.states[prefix]]
            tried = [*likely, *(n for n in hot if _POSSIBLE < row[n] <= _LIKELY)]
        for unit in tried:
            score = (in_blank if unit == last else both) + row[unit]
            if score == _NEVER:
                continue
            number = prefixes.extended(prefix, unit)
            old = after.get(number, (_NEVER, _NEVER))
            after[number] = (old[0], _sum(old[1], score))
    return after


def _kept(beams: dict[int, tuple[float, float]], prefixes: _Prefixes) -> dict[int, tuple[float, float]]:
    bonuses = prefixes.bonuses
    ranked = sorted(((_sum(*pair) + bonuses[one], one) for one, pair in beams.items()), reverse=True)
    least = ranked[0][0] - _MARGIN
    return {one: beams[one] for score, one in ranked[: prefixes.search.beams] if score >= least}


def _sum(one: float, other: float) -> float:
    """Return log(exp(one) + exp(other)), to 1e-6."""
    if one < other:
        one, other = other, one
    difference = other - one
    return one if difference < -14 else one + log1p(exp(difference))
