"""Text normalisation for transcripts in any script."""

import unicodedata
from functools import cache

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\uff07\u0060\u00b4", "'"))
_JOINERS = "\u200c\u200d"  # invisible, but part of the spelling in Persian and in Indian scripts


def strip_punctuation(text: str, keep: str = "'") -> str:
    """Lower-case `text`, replace all but letters, marks, digits and `keep` by spaces, and collapse white space.

    The result is in Unicode's NFC form, and a second call on it changes nothing. Curly apostrophes are first replaced
    by straight ones. Words without a letter or digit, such as a lone apostrophe, are dropped. Digits remain digits,
    because how to spell them out depends on the language.
    """
    text = unicodedata.normalize("NFC", text).lower().translate(_APOSTROPHES)
    words = unicodedata.normalize("NFC", "".join(_kept(c, keep) for c in text)).split()
    return " ".join(word for word in words if any(c.isalnum() for c in word))


@cache  # a corpus has millions of characters, but few distinct ones
def _kept(character: str, keep: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LM" or category == "Nd" or character in keep or character in _JOINERS:
        return character
    return "" if category == "Cf" else " "  # invisible signs (soft hyphens, ...) are removed, all else separates words


def normalise(text: str) -> str:
    """Lower-case `text`, compose its characters (NFC) and collapse white space, for comparison and training."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()).split())
