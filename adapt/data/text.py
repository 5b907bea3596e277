"""Transcripts made comparable: lower case, no punctuation, one spelling of the apostrophe, in any script."""

import unicodedata
from functools import cache

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\uff07\u0060\u00b4", "'"))
_JOINERS = "\u200c\u200d"  # invisible, but part of the spelling in Persian and the scripts of India


def strip_punctuation(text: str, keep: str = "'") -> str:
    """Lower-case `text`, turn what is no letter, mark, digit or in `keep` into spaces, and collapse white space.

    The result is in Unicode's NFC form, and normalising it again changes nothing. Curly apostrophes become straight
    ones first. A word without any letter or digit (a lone apostrophe) is dropped. Digits stay digits: spelling them
    out is for who knows the language.
    """
    text = unicodedata.normalize("NFC", text).lower().translate(_APOSTROPHES)
    words = unicodedata.normalize("NFC", "".join(_kept(c, keep) for c in text)).split()
    return " ".join(word for word in words if any(c.isalnum() for c in word))


@cache  # a corpus has millions of characters, but few different ones
def _kept(character: str, keep: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LM" or category == "Nd" or character in keep or character in _JOINERS:
        return character
    return "" if category == "Cf" else " "  # soft hyphens and the like vanish; anything else parts two words


def normalise(text: str) -> str:
    """Lower case, composed characters (NFC), and single spaces: how we compare and train on texts."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()).split())
