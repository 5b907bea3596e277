"""Favour hot words, and the language of a text, in all that a model decodes.

with favouring(loaded, ["Zorvane", "Port Elkin"]):
    texts = decode_examples(model, model.task, examples, loader)
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from adapt.checks import check_number
from adapt.data.loader import Batch
from adapt.errors import InputError
from adapt.hot_words.ctc_beam import Search, beam_search
from adapt.hot_words.ngram import NGram
from adapt.hot_words.terms import correction_terms
from adapt.hot_words.tokens import (
    HotTokens,
    NGramTokens,
    check_writable,
    lacking_punctuation,
    token_trie,
    tokens_of,
    word_starts,
)
from adapt.hot_words.trie import Trie
from adapt.hot_words.words import HotWord, Words, hot_words, read_text_lines
from adapt.models.ctc import Emissions
from adapt.models.loaded import Loaded
from adapt.models.model import CTCModel, DecoderModel, Model

CHARACTER = 3.0  # the bonus of a character of a hot word in CTC, in nats
CHARACTERS, TOKENS = 6, 3  # the orders of the n-grams
WEIGHT = 0.3  # of an n-gram
_LARGEST_TEXT = 20_000_000  # bytes

log = logging.getLogger(__name__)


@contextmanager
def favouring(
    loaded: Loaded,
    words: Words | None = "auto",
    ngram: Path | str | None = None,
    corrections: Path | str = "auto",
    ngram_weight: float = WEIGHT,
) -> Iterator[None]:
    """Within this block, the model favours hot words when it decodes.

    Open it before `corrected`, so that corrections have the last word. CTC models decode by a prefix beam search; its
    text is taken where it has a hot word that greedy decoding missed. Models with a decoder keep their way of decoding.

    Args:
        loaded: The model.
        words: Hot words (`adapt.hot_words.words.hot_words`). The terms of the corrections join them; "off" or "none"
            favours none.
        ngram: A text file; what it says often is favoured, by an n-gram of characters (CTC) or tokens. None for none.
        corrections: Whose terms join: "auto" for those of the model's own store, "off" for none, or the path of one.
        ngram_weight: The weight of the n-gram, from 0 to 2.

    Raises:
        InputError: a word, a weight or a file is invalid, or the model can never write a word; it is named.
    """
    check_number("ngram_weight", ngram_weight, minimum=0.0)
    if ngram_weight > 2:
        raise InputError(f"ngram_weight must be at most 2, got {ngram_weight}. {WEIGHT} is the usual one.")
    if ngram is None and ngram_weight != WEIGHT:
        raise InputError(
            f"ngram_weight={ngram_weight} is the weight of an n-gram: give ngram=FILE too, or leave it out."
        )
    given = hot_words(words)
    terms = [] if words in ("off", "none") else correction_terms(loaded, corrections)
    chosen = [*given, *_new(loaded.model, terms, given)]
    lines = [] if ngram is None else _lines(ngram)
    if not chosen and not lines:
        yield
        return
    if isinstance(loaded.model, CTCModel):
        with _ctc(loaded.model, chosen, lines, ngram_weight):
            yield
    else:
        assert isinstance(loaded.model, DecoderModel)
        with _decoder(loaded.model, chosen, lines, ngram_weight):
            yield


def favoured(words: Words | None, ngram: Path | str | None, ngram_weight: float = WEIGHT) -> dict[str, Any]:
    """Return what is favoured as plain values, such as to tell whether a transcript was made with it."""
    own = [[word.text, word.weight] for word in hot_words(words)]
    made: dict[str, Any] = {"words": own} if own else {}
    if words in ("off", "none"):
        made["words"] = "off"
    if ngram is not None:
        text = "\n".join(_lines(ngram))
        made["ngram"] = [hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), ngram_weight]
    return made


def _lines(path: Path | str) -> list[str]:
    lines = [" ".join(line.split()) for line in read_text_lines(path, "ngram", _LARGEST_TEXT)]
    lines = [line for line in lines if line]
    if not lines:
        raise InputError(f"ngram={path} is empty. Expected a text such as the model should write, a sentence a line.")
    return lines


def _new(model: Model, terms: Sequence[HotWord], given: Sequence[HotWord]) -> list[HotWord]:
    """Return the terms that the model can write and that are not given."""
    known, found = {word.text.lower() for word in given}, []
    for term in terms:
        try:
            _check(model, term)
        except InputError:  # a correction that is stored as a replacement of a whole answer
            continue
        if term.text.lower() not in known:
            found.append(term)
    return found


def _check(model: Model, word: HotWord) -> None:
    if isinstance(model, DecoderModel):
        check_writable(model, word)
    elif isinstance(model, CTCModel) and (missing := [one for one in model.missing(word.text) if one.strip()]):
        raise InputError(
            f"{word.where or 'words'}: the hot word {word.text!r} contains {', '.join(map(repr, missing))}, "
            "outside the model's alphabet. Spell it differently, or leave it out."
        )


@contextmanager
def _ctc(model: CTCModel, words: Sequence[HotWord], lines: Sequence[str], weight: float) -> Iterator[None]:
    for word in words:
        _check(model, word)
    boundary = boundary_of(model)
    trie = ctc_trie(model, words, boundary) if words else None
    search = Search(model.blank, trie, boundary, _ctc_ngram(model, lines) if lines else None, weight)
    texts = {model.task.normalise(word.text) for word in words}
    own, task = "task" in vars(model), model.task
    model.task = replace(task, decode=partial(_decode_ctc, search=search, words=texts), validate=None)
    try:
        yield
    finally:
        if own:
            model.task = task
        else:
            vars(model).pop("task", None)


def boundary_of(model: CTCModel) -> int | None:
    """Return the output unit that a CTC model writes between words; None if it has none."""
    return next((unit for unit, token in enumerate(model.vocabulary) if token in (" ", "|")), None)


def ctc_trie(model: CTCModel, words: Sequence[HotWord], boundary: int | None) -> Trie:
    """Return the trie of the characters of hot words. A word counts when it ends: before a space, or with the text."""
    trie = Trie(() if boundary is None else (boundary,))
    for word in words:
        units = model.encode(word.text)
        bonuses = [0.0 if unit == boundary else CHARACTER * word.weight for unit in units]
        if boundary is None:
            trie.add(units, bonuses, anywhere=True)
        else:
            trie.add([*units, boundary], [*bonuses, 0.0], anywhere=False)
    return trie


def _ctc_ngram(model: CTCModel, lines: Sequence[str]) -> NGram:
    end = len(model.vocabulary)
    usable = [[*model.encode(line), end] for line in map(model.task.normalise, lines) if not model.missing(line)]
    if not usable:
        missing = sorted({one for line in lines for one in model.missing(line)})
        raise InputError(
            f"ngram: each line contains characters outside the model's alphabet, such as "
            f"{', '.join(map(repr, missing[:8]))}. Remove punctuation, and spell numbers out."
        )
    if len(usable) < len(lines):
        log.warning("ngram: %d of %d lines have characters outside the model's alphabet, and are left out.",
                    len(lines) - len(usable), len(lines))  # fmt: skip
    return NGram(usable, end + 1, CHARACTERS)


def _decode_ctc(model: CTCModel, batch: Batch, search: Search, words: set[str]) -> list[str]:
    emissions: Emissions = model(batch.inputs, batch.lengths)
    texts = []
    for rows, length in zip(emissions.log_probs.float().cpu(), emissions.lengths.tolist(), strict=True):
        rows = rows[:length]
        greedy = model.decode(rows.argmax(-1).tolist())
        units = beam_search(rows.numpy(), search)
        text = model.decode([unit for one in units for unit in (one, search.blank)])
        texts.append(text if search.ngram is not None or _gains(text, greedy, words) else greedy)
    return texts


def _gains(text: str, greedy: str, words: set[str]) -> bool:
    """Return whether a text has a hot word more often than the greedy one."""
    text, greedy = f" {text} ", f" {greedy} "
    return text != greedy and any(text.count(f" {word} ") > greedy.count(f" {word} ") for word in words)


@contextmanager
def _decoder(model: DecoderModel, words: Sequence[HotWord], lines: Sequence[str], weight: float) -> Iterator[None]:
    processors: list[Any] = []
    if words:
        trie, starts = token_trie(model, words), word_starts(model)
        processors.append(HotTokens(trie, partial(_beams, model), model.special_units, starts))
    if lines:
        tokens, special = tokens_of(model), model.special_units
        end: int = model.tokenizer.eos_token_id
        texts = [[*tokens(line if plain_start(model) else f" {line}"), end] for line in lines]
        neutral = lacking_punctuation(model, texts)
        processors.append(NGramTokens(NGram(texts, len(model.vocabulary), TOKENS), weight, special, neutral))
        _warn_of_case(model, lines)
    before, model.logits_processors = model.logits_processors, processors
    try:
        yield
    finally:
        model.logits_processors = before


def _warn_of_case(model: DecoderModel, lines: Sequence[str]) -> None:
    has_lower, has_upper = (any(map(case, lines)) for case in (_has_lower, _has_upper))
    if has_lower and not has_upper and any(map(_has_upper, model.vocabulary)):
        log.warning(
            "ngram: the text has no capital letters, and with it the model writes fewer. Give a text as the model "
            "writes, or a smaller ngram_weight=."
        )


def _has_lower(text: str) -> bool:
    return any(map(str.islower, text))


def _has_upper(text: str) -> bool:
    return any(map(str.isupper, text))


def _beams(model: DecoderModel) -> int:
    return int(model.generation_arguments.get("num_beams") or model.net.generation_config.num_beams or 1)  # pyright: ignore


def plain_start(model: DecoderModel) -> bool:
    """Return whether a model writes its first word without a space, unlike Whisper."""
    tokens, special = tokens_of(model), model.special_units
    return [unit for unit in model.encode("a") if unit not in special] == tokens("a")
