"""Text normalisation for transcripts in any script: case, punctuation and spelling."""

import re
import unicodedata
from functools import cache

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\uff07\u0060\u00b4", "'"))
_JOINERS = "\u200c\u200d"  # invisible, but part of the spelling in Persian and in Indian scripts
_DOTTED_I, _DOTLESS_I = "\u0130", "\u0131"
# The languages in which the capital of dotless i is I, by code and by English name.
_TURKIC = {"tr", "tur", "turkish", "az", "aze", "azj", "azerbaijani", "crh", "gag"}
_TURKIC_ALPHABET = set("abcdefghijklmnopqrstuvwxyz\u00e7\u011f\u0131\u00f6\u015f\u00fc\u0259\u00e2\u00ee\u00fb")
# A dot above i, with other marks in between. It is no letter of any alphabet: Unicode's lower-casing of U+0130 adds it,
# and Lithuanian dictionaries write it below accents.
_DOT_ABOVE = re.compile("(?<=[ij\u012f])([\u0316-\u0333]*)\u0307+")
_FINAL_SIGMA = re.compile("(?<=\\w)\u03c3(?!\\w)")
_SAME_LETTER = {"<wide>", "<narrow>", "<isolated>", "<initial>", "<medial>", "<final>"}  # forms of presentation
_PER_MILLE = "\u2030\u2031"


def lower_case(text: str, language: str | None = None) -> str:
    """Return `text` in lower case, in Unicode's NFC form. A letter stays one letter.

    Args:
        text: The text.
        language: Its language, a code such as "tr" or "tr-TR"; None if it is unknown. In Turkish and Azerbaijani,
            the lower case of I is the dotless i.
    """
    text = unicodedata.normalize("NFC", lower_letters(unicodedata.normalize("NFC", text), language))
    # Letters that are recognised one at a time, as by a CTC model, have no final form.
    return _FINAL_SIGMA.sub("\u03c2", text) if "\u03c3" in text else text


def lower_letters(text: str, language: str | None = None) -> str:
    """Return `text` in lower case like `lower_case`, but leave the spelling: composed letters or letters and marks."""
    if is_turkic(language):
        text = text.replace("I\u0307", "i").replace("I", _DOTLESS_I)
    return _DOT_ABOVE.sub(r"\1", text.replace(_DOTTED_I, "i").lower())


def is_turkic(language: str | None) -> bool:
    """Return whether the language, a code such as "tr" or "az-Latn", has a dotless i."""
    return language is not None and re.split("[-_]", language.lower())[0] in _TURKIC


def language_of_alphabet(letters: str) -> str | None:
    """Return "tr" for an alphabet with both kinds of i and no letters but those of Turkic languages, else None."""
    written = {lower_case(letter) for letter in letters if letter.isalpha()}
    both = _DOTLESS_I in letters or _DOTTED_I in letters
    return "tr" if both and written <= _TURKIC_ALPHABET else None


def strip_punctuation(text: str, keep: str = "'", language: str | None = None) -> str:
    """Lower-case `text`, replace punctuation by spaces, and collapse white space.

    Kept are letters, marks, numbers (also fractions, Roman numerals and superscripts), the characters of `keep`, and
    symbols outside ASCII that are read aloud: currencies, mathematical symbols, per mille, and abbreviations such as
    those for "number" and "trade mark". Full-width letters and digits and ligatures are replaced by plain ones. The
    result is in Unicode's NFC form, and a second call on it changes nothing. Curly apostrophes are first replaced by
    straight ones. Words without a letter, number or symbol, such as a lone apostrophe, are dropped. Numbers are not
    spelled out, because how to do so depends on the language.
    """
    plain = "".join(_plain(character) for character in unicodedata.normalize("NFC", text))
    words = lower_case("".join(_kept(c, keep) for c in plain.translate(_APOSTROPHES)), language).split()
    return " ".join(word for word in words if any(c.isalnum() or _is_symbol(c) for c in word))


@cache
def _plain(character: str) -> str:
    """Return the letters of a ligature, and the plain form of a letter that has another form or width."""
    tag = unicodedata.decomposition(character).partition(" ")[0]
    ligature = "\ufb00" <= character <= "\ufb17" or character in "\u0132\u0133"
    return unicodedata.normalize("NFKC", character) if ligature or tag in _SAME_LETTER else character


@cache  # a corpus has millions of characters, but few distinct ones
def _kept(character: str, keep: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LMN" or character in keep or character in _JOINERS or _is_symbol(character):
        return character
    return "" if category == "Cf" else " "  # invisible signs (soft hyphens, ...) are removed, all else separates words


@cache
def _is_symbol(character: str) -> bool:
    """Return whether a character outside ASCII is read aloud as a word. Emoji and arrows are not."""
    if character.isascii():
        return False
    category = unicodedata.category(character)
    if category == "So":
        letters = unicodedata.normalize("NFKC", character)
        return character in "\u00a9\u00ae\u00b0" or (letters != character and any(c.isalnum() for c in letters))
    arrow = "\u2190" <= character <= "\u21ff" or "\u27f0" <= character <= "\u27ff" or "\u2900" <= character <= "\u297f"
    return category == "Sc" or character in _PER_MILLE or (category == "Sm" and not arrow)


def normalise(text: str, language: str | None = None) -> str:
    """Lower-case `text`, compose its characters (NFC) and collapse white space, for comparison and training."""
    return " ".join(lower_case(text, language).split())
