"""The units that a text covers: groups of three letters, words, or pairs of phonemes."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from adapt.checks import check_choice
from adapt.data.text import strip_punctuation

Units = Literal["letters", "words", "phonemes"]
UNITS = ("letters", "words", "phonemes")


def units_of(texts: Sequence[str], units: Units = "letters", voice: str = "en-us") -> list[Counter[str]]:
    """Count the units of each text.

    Args:
        texts: The texts. Case and punctuation do not matter.
        units: "letters" for groups of three letters within a word, whose ends count as a letter; "words"; or
            "phonemes" for pairs of neighbouring phonemes as espeak-ng reads the text.
        voice: The voice of espeak-ng that reads the text, such as "en-us" or "de"; only used for "phonemes".

    Returns:
        The number of times that each unit occurs, one counter per text.

    Raises:
        InputError: `units` is none of the three; or with "phonemes", espeak-ng or its voice is missing.
    """
    check_choice("units", units, UNITS)
    plain = [strip_punctuation(text) for text in texts]
    if units == "words":
        return [Counter(text.split()) for text in plain]
    if units == "letters":
        return [Counter(group for word in text.split() for group in _groups(word)) for text in plain]
    return [_phoneme_pairs(text, voice) for text in plain]


def _groups(word: str) -> list[str]:
    padded = f" {word} "
    return [padded[start : start + 3] for start in range(max(1, len(padded) - 2))]


def _phoneme_pairs(text: str, voice: str) -> Counter[str]:
    from adapt.data.synthetic import espeak

    if not text:
        return Counter()
    symbols = ["", *(phoneme.symbol for phoneme in espeak.speak(text, voice).phonemes), ""]
    return Counter(f"{left} {right}" for left, right in zip(symbols, symbols[1:], strict=False))
