"""Find the word of a corrected text that its audio supports least, in speech encoder-decoders.

Only the words that the correction changes are judged. They are put into the model's answer, with its capitals and
punctuation, so that a difference of style costs nothing. The cost of a word is the negative log-probability of its
least likely token, given the audio and the words before it, plus half that of the token after the word: after a word
that was not said, what follows is surprising too. In nats.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import Tensor

from adapt.data.kinds import with_text
from adapt.data.loader import Batch
from adapt.models.model import Model

_AFTER = 0.5  # weight of the token after a word
_EDGES = re.compile(r"^\W+|\W+$")
_TAIL = re.compile(r"\W*$")


@dataclass(frozen=True)
class ChangedWord:
    """A word that a correction changes, and what it costs.

    Args:
        word: the word, as the corrected text has it; "" where the correction removes words.
        removed: the removed words of the model's answer; "" unless `word` is "".
        cost: the cost in nats.
    """

    word: str
    removed: str
    cost: float


@dataclass(frozen=True)
class Change:
    """Words that a correction puts in the place of others, by their places in the text in the answer's style."""

    start: int
    words: tuple[str, ...]
    removed: str


def least_supported(model: Model, batch: Batch, before: str) -> ChangedWord | None:
    """Return the changed word with the highest cost; None if the text has the same words as the answer.

    Args:
        model: a speech encoder-decoder.
        batch: the only example, with the corrected text.
        before: the model's answer.
    """
    costs = changed_words(model, batch, before)
    return max(costs, key=lambda one: one.cost) if costs else None


@torch.no_grad()
def changed_words(model: Model, batch: Batch, before: str) -> list[ChangedWord]:
    """Return each word that a corrected text changes in the model's answer, with its cost. See `least_supported`."""
    (example,) = batch.examples
    units, space, changes = in_style(before, model.task.normalise(example.text))
    if not changes:
        return []
    net: Any = model

    def target(count: int) -> list[int]:
        return net.target(with_text(example, space.join(units[:count])))

    whole = target(len(units))
    costs = _token_costs(model, batch, whole)

    def end(count: int) -> int:  # of the tokens of the first `count` words
        part = target(count)
        shared = next((n for n, (one, other) in enumerate(zip(part, whole, strict=False)) if one != other), len(part))
        return min(shared, len(whole) - 1)

    found: list[ChangedWord] = []
    for change in changes:
        for number, word in enumerate(change.words):
            first, last = end(change.start + number), end(change.start + number + 1)
            within = costs[first : max(last, first + 1)]
            found.append(ChangedWord(word, "", float(within.max() + _AFTER * costs[max(last, first + 1) :][:1].sum())))
        if not change.words:
            found.append(ChangedWord("", change.removed, float(costs[end(change.start)])))
    return found


def in_style(answer: str, text: str) -> tuple[list[str], str, list[Change]]:
    """Return the words of a text with the answer's spelling where both have the same word, and where they differ.

    Upper and lower case and punctuation at the edges of words do not count. Texts without spaces are compared by
    character.

    Returns:
        The words in the answer's style, what joins them, and the changes.
    """
    space = " " if " " in answer or " " in text else ""
    old, new = (one.split() if space else list(one) for one in (answer, text))
    keys = [[_EDGES.sub("", word).casefold() for word in words] for words in (old, new)]
    words: list[str] = []
    changes: list[Change] = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
        if kind == "equal":
            words += old[i1:i2]
            continue
        if any(keys[0][i1:i2]) or any(keys[1][j1:j2]):
            changes.append(Change(len(words), tuple(new[j1:j2]), space.join(old[i1:i2])))
        words += _dressed(new[j1:j2], old[i1:i2])
    return words, space, changes


def _dressed(new: list[str], old: list[str]) -> list[str]:
    """Give words the first capital and the last punctuation of those that they replace, unless they have their own."""
    if not new or not old:
        return new
    dressed = list(new)
    if old[0][:1].isupper():
        dressed[0] = dressed[0][:1].upper() + dressed[0][1:]
    tail = _TAIL.search(old[-1])
    if tail is not None and not _TAIL.search(dressed[-1]).group():  # pyright: ignore[reportOptionalMemberAccess]
        dressed[-1] += tail.group()
    return dressed


def _token_costs(model: Model, batch: Batch, target: list[int]) -> Tensor:
    """Return the negative log-probability of each token of a target, `(tokens,)`, with teacher forcing."""
    tokens = torch.tensor([target], device=batch.inputs.device)
    logits = model(batch.inputs, batch.lengths, tokens)[0].float()
    return -logits.log_softmax(-1).gather(1, tokens[0].unsqueeze(1))[:, 0].cpu()
