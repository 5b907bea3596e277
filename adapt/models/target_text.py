"""Texts of users as tokens: names of control tokens stay text, and what a model can never write is named."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

_CONTROL = re.compile(r"<\|.*\|>|>>.+<<")  # Whisper's tokens, and Marian's language codes
_NAMED = 8  # how many characters a message names at most


def is_control(token: str) -> bool:
    """Return whether a token is a control token by its form, such as "<|en|>" or ">>deu<<"."""
    return _CONTROL.fullmatch(token) is not None


def text_tokens(tokenizer: Any, text: str, side: str = "text") -> list[int]:
    """Return the tokens of a text without special tokens. A text such as "</s>" is not read as that token.

    Args:
        tokenizer: The model's tokenizer.
        text: The text.
        side: "text", or "text_target" for the target side of a translation.
    """
    if not has_special(tokenizer, text):
        return tokenizer(**{side: text}, add_special_tokens=False).input_ids
    units = tokenizer(**{side: text}, add_special_tokens=False, split_special_tokens=True).input_ids
    # Some tokenizers look the text up in the vocabulary nevertheless, if they have no other tokens for it.
    unknown = tokenizer.unk_token_id
    special = {*tokenizer.all_special_ids} - {unknown}
    return [unknown if unit in special and unknown is not None else unit for unit in units]


def framed_tokens(tokenizer: Any, text: str, side: str) -> list[int]:
    """Return the tokens of a text with the special tokens that frame it. See `text_tokens` for the arguments."""
    if not has_special(tokenizer, text):
        return tokenizer(**{side: text}).input_ids
    framed = tokenizer(**{side: text}, split_special_tokens=True).input_ids
    inside = tokenizer(**{side: text}, split_special_tokens=True, add_special_tokens=False).input_ids
    places = range(len(framed) - len(inside) + 1)
    start = next(place for place in places if framed[place : place + len(inside)] == inside)
    return [*framed[:start], *text_tokens(tokenizer, text, side), *framed[start + len(inside) :]]


def has_special(tokenizer: Any, text: str) -> bool:
    """Return whether a text contains the name of a special token."""
    return any(token in text for token in tokenizer.all_special_tokens)


def suppressed_tokens(net: Any) -> tuple[frozenset[int], frozenset[int]]:
    """Return the tokens that `generate` of a network never writes, and those that it never writes first."""
    known = net.generation_config
    single = [units[0] for units in known.bad_words_ids or () if len(units) == 1]
    never, first = known.suppress_tokens or (), known.begin_suppress_tokens or ()
    return frozenset((*never, *single)), frozenset(first)


def unwritable_parts(
    tokenizer: Any,
    text: str,
    units: Sequence[int],
    outputs: int,
    never: Collection[int],
    first: Collection[int],
    encode: Callable[[str], list[int]],
) -> list[str]:
    """Return the characters of a text that a model can never write; tokens or words if no single character is to blame.

    Args:
        tokenizer: The model's tokenizer.
        text: The text.
        units: Its tokens, without those that frame a target.
        outputs: The number of the model's output units.
        never: The tokens that the model never writes.
        first: The tokens with which it never starts.
        encode: Returns the tokens of a text, to find the characters without tokens.
    """
    unknown = tokenizer.unk_token_id
    special = {*tokenizer.all_special_ids} - {unknown}
    bad: list[str] = []
    for place, unit in enumerate(units):
        token = str(tokenizer.convert_ids_to_tokens(unit))
        if unit == unknown or token == tokenizer.unk_token:
            bad += _unknown_characters(text, unit, encode)
        elif unit in special or is_control(token):
            bad.append(token)
        elif unit in never or unit >= outputs or (place == 0 and unit in first):
            written = tokenizer.decode([unit]).strip()
            bad.append(token if not written or "\ufffd" in written else written)
    return list(dict.fromkeys(bad))


def _unknown_characters(text: str, unknown: int, encode: Callable[[str], list[int]]) -> list[str]:
    """Return the characters, or else the words, for which a tokenizer has no tokens."""
    for parts in (sorted({*text} - {" "}), text.split()):
        bad = [part for part in parts if unknown in encode(part)]
        if bad:
            return bad
    return [text]


def unwritable_reason(parts: Sequence[str], remedy: str) -> str | None:
    """Return why a text with these unwritable parts cannot be learned; None if there are none."""
    if not parts:
        return None
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return (
        f"the text contains {', '.join(map(repr, parts[:_NAMED]))}{more}, which it can never write: either the "
        f"model has no tokens for it, or its generation_config.json suppresses them. {remedy}"
    )
