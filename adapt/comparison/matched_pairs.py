"""NIST's matched-pair test of word errors: do two recognisers differ on the same utterances?

The matched-pair sentence-segment word error test (MAPSSWE; Gillick & Cox 1989, Pallett et al. 1990) cuts the references
into segments between which both recognisers are right for at least two words. It compares the numbers of errors of the
two in each segment, which it takes as independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BUFFER = 2  # correct words between two segments


@dataclass(frozen=True)
class MatchedPairs:
    """The result of the test.

    Attributes:
        segments: The number of segments in which at least one recogniser made an error.
        difference: The mean number of errors of the second recogniser minus that of the first, per segment.
        p_value: Two-sided, from the normal distribution. None with fewer than two segments, or if the difference is the
            same in all of them.
    """

    segments: int
    difference: float
    p_value: float | None


def matched_pairs(references: Sequence[str], first: Sequence[str], second: Sequence[str]) -> MatchedPairs:
    """Test whether the word errors of two recognisers differ.

    Args:
        references: The normalised references; each has at least one word.
        first: The normalised hypotheses of the first recogniser, in the order of the references.
        second: The same of the second.
    """
    errors = [
        pair
        for before, after in zip(_errors(references, first), _errors(references, second), strict=True)
        for pair in _segments(before, after)
    ]
    differences = np.array([after - before for before, after in errors], dtype=float)
    if not len(differences):
        return MatchedPairs(0, 0.0, None)
    mean, count = float(differences.mean()), len(differences)
    deviation = float(differences.std(ddof=1)) if count > 1 else 0.0
    if deviation == 0:
        return MatchedPairs(count, mean, None)
    from scipy.stats import norm

    return MatchedPairs(count, mean, float(2 * norm.sf(abs(mean) / (deviation / count**0.5))))


def _errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[np.ndarray]:
    """Return the errors of each hypothesis at each place of its reference.

    The places of a reference of n words are the gap before the first word, the first word, the next gap, ..., the gap
    after the last word, `(2 n + 1,)`. Insertions are errors at gaps.
    """
    import jiwer

    aligned = jiwer.process_words(list(references), list(hypotheses))
    counts = []
    for reference, chunks in zip(aligned.references, aligned.alignments, strict=True):
        places = np.zeros(2 * len(reference) + 1, dtype=int)
        for chunk in chunks:
            if chunk.type == "insert":
                places[2 * chunk.ref_start_idx] += chunk.hyp_end_idx - chunk.hyp_start_idx
            elif chunk.type != "equal":
                places[2 * chunk.ref_start_idx + 1 : 2 * chunk.ref_end_idx : 2] += 1
        counts.append(places)
    return counts


def _segments(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Return the errors of both recognisers in each segment of a reference."""
    wrong = np.flatnonzero(first + second)
    if not len(wrong):
        return []
    # Between two places lie as many words as odd numbers.
    words_between = wrong[1:] // 2 - (wrong[:-1] + 1) // 2
    bounds = np.split(wrong, np.flatnonzero(words_between >= BUFFER) + 1)
    return [(int(first[part].sum()), int(second[part].sum())) for part in bounds]
