"""Hot words and a token n-gram for models with a decoder: they change the scores of the next token in `generate`."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from adapt.data.text import lower_letters
from adapt.errors import InputError
from adapt.hot_words.ngram import BEGIN, NGram
from adapt.hot_words.trie import ANYWHERE, START, Trie
from adapt.hot_words.words import HotWord
from adapt.models.model import DecoderModel, SpeechDecoderModel
from adapt.models.target_text import suppressed_tokens, text_tokens, unwritable_parts
from adapt.models.whisper_prompt import starts_with_space

FIRST, NEXT = 1.0, 4.0  # the bonus of the first token of a hot word and of the others, in nats
_MARKS = frozenset('.,;:!?"()…。，、？！：；')  # not apostrophes and hyphens, which are inside words


def token_trie(model: DecoderModel, words: Sequence[HotWord]) -> Trie:
    """Return the trie of all tokenised spellings of some hot words: in several cases, with and without a space before.

    Raises InputError that names what the model can never write of a hot word.
    """
    trie, tokens = Trie(model.special_units), tokens_of(model)
    for word in words:
        check_writable(model, word)
        for spelling in spellings(word.text):
            plain, spaced = tokens(spelling), tokens(f" {spelling}")
            # Inside a text, a word that is written with spaces begins with one.
            inside = plain == spaced or not starts_with_space(spelling, None)
            _add(model, trie, plain, word.weight, inside)
            _add(model, trie, spaced, word.weight, True)
    return trie


def spellings(text: str) -> list[str]:
    """Return a hot word as it is given, in lower case, and with capital letters at its start and at that of its words.

    The model decides in which case it writes the word.
    """
    lower = lower_letters(text)
    titled = " ".join(word[:1].upper() + word[1:] for word in text.split())
    return list(dict.fromkeys((text, lower, text[:1].upper() + text[1:], titled)))


def tokens_of(model: DecoderModel) -> Callable[[str], list[int]]:
    """Return the function from a text to its tokens, without those that frame it."""
    if isinstance(model, SpeechDecoderModel):
        return lambda text: text_tokens(model.tokenizer, text)
    special = model.special_units - {model.tokenizer.unk_token_id}
    return lambda text: [unit for unit in model.encode(text) if unit not in special]


def check_writable(model: DecoderModel, word: HotWord) -> None:
    """Raise InputError if the model can never write a hot word."""
    tokens, outputs = tokens_of(model), len(model.vocabulary)
    bad = unwritable_parts(
        model.tokenizer, word.text, tokens(word.text), outputs, suppressed_tokens(model.net)[0], (), tokens
    )
    if bad:
        raise InputError(
            f"{word.where or 'words'}: the hot word {word.text!r} contains {', '.join(map(repr, bad))}, which the "
            "model can never write. Spell it differently, or leave it out."
        )


def _add(model: DecoderModel, trie: Trie, tokens: Sequence[int], weight: float, anywhere: bool) -> None:
    if tokens and model.tokenizer.unk_token_id not in tokens:
        trie.add(tokens, [weight * (NEXT if place else FIRST) for place in range(len(tokens))], anywhere)


class HotTokens:
    """Raises the scores of the tokens that begin or continue a hot word.

    A hot word begins only where the model itself begins a word: not inside one, and not where the text ends, which
    would let greedy decoding write hot words for ever. In beam search, the bonus of an incomplete word is taken back
    from all other tokens. Greedy decoding has no second path for which that would be right, and keeps to what it hears.

    Args:
        trie: The tokens of the hot words.
        beams: Returns the number of beams.
        special: The tokens that are no text.
        starts: The tokens that begin a word; empty if the tokenizer does not mark them.
    """

    def __init__(
        self, trie: Trie, beams: Callable[[], int], special: frozenset[int], starts: frozenset[int] = frozenset()
    ) -> None:
        self.trie, self.beams, self.special, self.starts = trie, beams, special, starts
        self._reach = trie.depth + 1

    def __call__(self, written: Tensor, scores: Tensor) -> Tensor:
        """Return the scores `(rows, vocabulary)` of the token after `written` `(rows, tokens)`."""
        likeliest, scores, several = scores.argmax(1).tolist(), scores.clone(), self.beams() > 1
        whole = written.shape[1] <= self._reach
        for row, tokens in enumerate(written[:, -self._reach :].tolist()):
            state = self.trie.state_after(tokens, START if whole else ANYWHERE)
            begins = self._begins(likeliest[row], state)
            back = self.trie.pending(state) if several else 0.0
            if back:
                scores[row] -= back
            added = {
                unit: change + back if several else own
                for unit, change, own in self.trie.continuations(state)
                if begins or unit in self.trie.children[state]
            }
            if added and (begins or state not in (START, ANYWHERE)):
                values = torch.tensor([*added.values()], dtype=scores.dtype, device=scores.device)
                scores[row, [*added]] += values
        return scores

    def _begins(self, likeliest: int, state: int) -> bool:
        if likeliest in self.special:
            return False
        return state == START or not self.starts or likeliest in self.starts


def word_starts(model: DecoderModel) -> frozenset[int]:
    """Return the tokens that begin a word, by the mark of byte-level and sentence pieces; empty if there is none."""
    return frozenset(unit for unit, token in enumerate(model.vocabulary) if token[:1] in ("\u0120", "\u2581"))


def lacking_punctuation(model: DecoderModel, texts: Iterable[Sequence[int]]) -> frozenset[int]:
    """Return the tokens of punctuation between words that no text has, such as the commas of a text without any."""
    said = {unit for text in texts for unit in text}
    return frozenset(
        unit
        for unit, token in enumerate(model.vocabulary)
        if (mark := token.lstrip("\u0120\u2581")) and not set(mark) - _MARKS and unit not in said
    )


class NGramTokens:
    """Adds the weighted scores of a token n-gram (shallow fusion).

    Args:
        ngram: The n-gram, whose units are the tokens.
        weight: Its weight.
        special: The tokens that are no text; a text begins after them.
        neutral: Tokens on which the text says nothing, such as punctuation that it lacks: they keep their probability,
            and the n-gram does not see them.
    """

    def __init__(
        self, ngram: NGram, weight: float, special: frozenset[int], neutral: frozenset[int] = frozenset()
    ) -> None:
        self.ngram, self.weight, self.special, self.neutral = ngram, weight, special, neutral

    def __call__(self, written: Tensor, scores: Tensor) -> Tensor:
        """Return the scores `(rows, vocabulary)` of the token after `written` `(rows, tokens)`."""
        reach = self.ngram.order if not self.neutral else 2 * self.ngram.order
        added = torch.stack([self._added(row, scores.shape[1]) for row in written[:, -reach:].tolist()]).to(scores)
        kept = [unit for unit in self.neutral if unit < scores.shape[1]]
        if kept:
            # The others together keep their probability too, so that it is that of the neutral ones which stays.
            others = scores.index_fill(1, torch.tensor(kept, device=scores.device), -torch.inf)
            shift = (others + added).logsumexp(1, keepdim=True) - others.logsumexp(1, keepdim=True)
            added = added - shift.nan_to_num(0.0, 0.0, 0.0)
            added[:, kept] = 0.0
        return scores + added

    def _added(self, tokens: Sequence[int], units: int) -> Tensor:
        before: list[int] = []
        for token in tokens:
            if token not in self.neutral:
                before = [BEGIN] if token in self.special else [*before, token]
        own = torch.from_numpy(self.ngram.scores(before))[:units]
        return self.weight * torch.nn.functional.pad(own, (0, max(0, units - len(own))))
