"""Decode CTC outputs into words of a list: the best path through the words, each weighted by its frequency.

A recogniser that meets a new accent misspells words: "hav" for "have". The best path through a list of known words
repairs many of them (token passing: Young et al. 1989). Self-training on such texts learns more than on greedy ones.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from adapt.errors import InputError
from adapt.models.model import CTCModel

_NEVER = np.float32(-1e30)  # the score of an impossible state; -inf would give NaN in differences


@dataclass(frozen=True)
class Lexicon:
    """A word list as a network of CTC states: for each word, its letters and a blank after each.

    Attributes:
        words: The words.
        prior: `(words,)`, the score in nats that each word starts with.
        units: `(states,)`, the output unit of each state.
        start: `(words,)`, the first state of each word.
        skips: `(states,)`, whether the blank before a state may be skipped.
        blank: The output unit of the blank.
        space: The output unit of the space between words.
    """

    words: tuple[str, ...]
    prior: np.ndarray
    units: np.ndarray
    start: np.ndarray
    skips: np.ndarray
    blank: int
    space: int

    @property
    def end(self) -> np.ndarray:
        """`(words,)`, the state of each word's last letter; the state after it is the word's last blank."""
        return np.append(self.start[1:], len(self.units)) - 2

    def decode(self, log_probs: Tensor) -> tuple[str, float]:
        """Return the best sequence of words, and its score in nats per time step.

        Args:
            log_probs: `(time, units)`, without padding.
        """
        emitted = log_probs.detach().float().cpu().numpy()
        return _Search(self, emitted).best() if len(emitted) else ("", 0.0)


def make_lexicon(model: CTCModel, texts: Iterable[str], weight: float = 1.0) -> Lexicon:
    """Return the words of texts. A word's prior is `weight` times the logarithm of its relative frequency.

    Args:
        model: The model that will read; words that it cannot write are left out.
        texts: The texts.
        weight: How much the frequency of a word counts.

    Raises:
        InputError: the model has no space between words, or no word of the texts can be written.
    """
    space = _space(model)
    counts = Counter(word for text in texts for word in model.task.normalise(text).split())
    units: list[int] = []
    skips: list[bool] = []
    start, words = [], []
    for word in counts:
        if model.missing(word):
            continue
        start.append(len(units))
        words.append(word)
        spelled = model.encode(word)
        for place, unit in enumerate(spelled):
            units += [unit, model.blank]
            skips += [place > 0 and spelled[place - 1] != unit, False]
    if not words:
        raise InputError("words: none of the words can be written by this model.")
    share = np.array([counts[word] for word in words]) / sum(counts[word] for word in words)
    prior = (weight * np.log(share)).astype(np.float32)
    return Lexicon(tuple(words), prior, np.array(units), np.array(start), np.array(skips), model.blank, space)


def separates_words(model: Any) -> bool:
    """Return whether a model is a CTC recogniser that writes a space between words, as a lexicon needs."""
    return isinstance(model, CTCModel) and _space_unit(model) is not None


def _space_unit(model: CTCModel) -> int | None:
    letters = (text for text in model.vocabulary if len(text) == 1 and text.isalpha() and not model.missing(text))
    letter = next(letters, None)
    if letter is None or model.missing(f"{letter} {letter}"):
        return None
    spelled = model.encode(f"{letter} {letter}")
    return spelled[1] if len(spelled) == 3 else None


def _space(model: CTCModel) -> int:
    space = _space_unit(model)
    if space is None:
        raise InputError("words: this model writes no space between words, so a word list cannot be used.")
    return space


class _Search:
    """Token passing through a lexicon: the best score of each state, and the step at which its word began.

    Between words there are two states: the space, and the blank after it. `exits` lists the words that ended, each with
    the step at which it began; `before[step]` is the exit that a word which began at this step follows.
    """

    def __init__(self, lexicon: Lexicon, emitted: np.ndarray) -> None:
        self.lexicon, self.emitted = lexicon, emitted
        self.ends = lexicon.end
        first = np.zeros(len(lexicon.units), dtype=bool)
        first[lexicon.start] = True
        self.first = first
        self.scores = np.full(len(first), _NEVER, dtype=np.float32)
        self.began = np.zeros(len(first), dtype=np.int32)
        self.scores[lexicon.start] = emitted[0, lexicon.units[lexicon.start]] + lexicon.prior
        self.silence, self.space, self.pause = (
            float(emitted[0, lexicon.blank]),
            (float(_NEVER), -1),
            (float(_NEVER), -1),
        )
        self.exits: list[tuple[int, int]] = []
        self.before = [-1]

    def best(self) -> tuple[str, float]:
        for step in range(1, len(self.emitted)):
            self._advance(step)
        score, state = self._last_states()
        word = int(score.argmax())
        found, total = [], float(score[word])
        between = max(self.space, self.pause)
        if between[0] > total:
            total, exit = between
        elif self.silence > total:
            total, exit = self.silence, -1
        else:
            found.append(self.lexicon.words[word])
            exit = self.before[int(self.began[state[word]])]
        while exit >= 0:
            word, began = self.exits[exit]
            found.append(self.lexicon.words[word])
            exit = self.before[began]
        return " ".join(reversed(found)), total / len(self.emitted)

    def _last_states(self) -> tuple[np.ndarray, np.ndarray]:
        letter, blank = self.scores[self.ends], self.scores[self.ends + 1]
        return np.maximum(letter, blank), np.where(letter >= blank, self.ends, self.ends + 1)

    def _advance(self, step: int) -> None:
        lexicon, now = self.lexicon, self.emitted[step]
        score, state = self._last_states()
        scores, began = self._within_words()
        entry, exit = max((self.silence, -1), self.space, self.pause)
        self.before.append(exit)
        entries = entry + lexicon.prior
        better = entries > scores[lexicon.start]
        enter = lexicon.start[better]
        scores[enter], began[enter] = entries[better], step
        word = int(score.argmax())
        space = self.space
        if score[word] > space[0]:
            self.exits.append((word, int(self.began[state[word]])))
            space = float(score[word]), len(self.exits) - 1
        pause = max(self.pause, self.space)
        self.scores, self.began = scores + now[lexicon.units], began
        self.silence += float(now[lexicon.blank])
        self.space = space[0] + float(now[lexicon.space]), space[1]
        self.pause = pause[0] + float(now[lexicon.blank]), pause[1]

    def _within_words(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the best scores after staying, moving on or skipping a blank, and where these words began."""
        scores, began = self.scores.copy(), self.began.copy()
        for shift, allowed in ((1, ~self.first), (2, self.lexicon.skips)):
            moved = np.full_like(scores, _NEVER)
            moved[shift:] = self.scores[:-shift]
            better = allowed & (moved > scores)
            scores[better] = moved[better]
            began[better] = np.roll(self.began, shift)[better]
        return scores, began
