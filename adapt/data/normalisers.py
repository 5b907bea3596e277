"""Normalisers: rewrite texts so that only differences in words count when two are compared, and not style.

`basic` is for any language, `english` is Whisper's normaliser (Radford et al. 2023, appendix C) as transformers has it.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, get_args

from adapt.checks import check_choice
from adapt.data.spellings import AMERICAN
from adapt.data.text import lower_case

Normalise = Literal["auto", "none", "basic", "english"]
Rule = Literal["basic", "english"]

_ENGLISH = {"en", "eng", "english"}
# Languages whose words have no spaces between them, by code and by English name.
_WITHOUT_SPACES = {
    "zh", "zho", "chi", "cmn", "chinese", "mandarin", "yue", "cantonese", "ja", "jpn", "japanese", "th", "tha", "thai",
    "lo", "lao", "my", "mya", "bur", "burmese", "myanmar", "km", "khm", "khmer",
}  # fmt: skip
_THEIR_SCRIPTS = ("CJK ", "HIRAGANA", "KATAKANA", "THAI ", "LAO ", "MYANMAR", "KHMER")
_BRACKETS = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+?\)")
_ELLIPSIS = re.compile(r"\.{2,}")
_JOINERS = "\u200c\u200d"  # part of the spelling in Persian and in Indian scripts
# Vowel signs of Arabic and Hebrew, which most texts leave out, and the stroke that only lengthens an Arabic letter.
_OPTIONAL_SIGNS = re.compile(
    "[\u0610-\u061a\u064b-\u0652\u0670\u0640\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]"
)
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\uff07\u0060\u00b4", "'"))
_NO_STYLE = "'\u2018\u2019\u02bc-\u2010\u2011"  # letters of words rather than style: apostrophes and hyphens


@dataclass(frozen=True)
class Normaliser:
    """How texts are rewritten before they are compared.

    Args:
        name: "auto" takes the English rules for English and the basic ones for all other languages; "basic" and
            "english" take theirs for every text.
        language: The language of texts whose own language is unknown; None if it is unknown too.
        spellings: Pairs of a British and an American spelling, for the English rules; None for a short list of our own.
    """

    name: Literal["auto", "basic", "english"] = "auto"
    language: str | None = None
    spellings: tuple[tuple[str, str], ...] | None = None

    def rule(self, language: str | None = None) -> Rule:
        """Return which rules texts of a language are rewritten by."""
        if self.name == "auto":
            return "english" if is_english(language or self.language) else "basic"
        return self.name

    def __call__(self, text: str, language: str | None = None) -> str:
        """Return a text without style. A text that consists of style alone, such as "(laughs)", only loses its case."""
        language = language or self.language
        plain = english(text, self.spellings) if self.rule(language) == "english" else basic(text, language)
        return plain or " ".join(lower_case(text, language).split())

    def rules(self, languages: Sequence[str | None]) -> tuple[Rule, ...]:
        """Return the rules that texts of these languages are rewritten by, each once."""
        return tuple(sorted({self.rule(language) for language in languages}))


def check_normalise(name: str) -> None:
    """Raise InputError if there is no such normaliser."""
    check_choice("normalise", name, get_args(Normalise))


def is_english(language: str | None) -> bool:
    """Return whether a language, a code such as "en-US" or a name, is English."""
    return language is not None and _subtag(language) in _ENGLISH


def without_spaces(language: str | None) -> bool:
    """Return whether a language, a code such as "zh-TW" or a name, is written without spaces between its words."""
    return language is not None and _subtag(language) in _WITHOUT_SPACES


def _subtag(language: str) -> str:
    return re.split("[-_]", language.strip().lower())[0]


@lru_cache(maxsize=1 << 16)
def basic(text: str, language: str | None = None) -> str:
    """Return a text in lower case without punctuation, symbols and bracketed parts, in Unicode's NFKC form.

    Like Whisper's basic normaliser, but: marks stay with their letters (Whisper's cuts Indian, Thai and Vietnamese
    words at them), optional vowel signs of Arabic and Hebrew are removed, and the decimal digits of all scripts become
    ASCII digits. NFKC replaces full-width letters, ligatures and fractions. `language` matters for lower case.
    """
    plain = lower_case(unicodedata.normalize("NFKC", text), language)
    plain = _OPTIONAL_SIGNS.sub("", _BRACKETS.sub("", plain))
    return " ".join("".join(map(_letter_or_space, plain)).split())


@cache
def _letter_or_space(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Cf":
        return character if character in _JOINERS else ""
    return " " if category[0] in "PS" else character


@lru_cache(maxsize=1 << 16)
def english(text: str, spellings: tuple[tuple[str, str], ...] | None = None) -> str:
    """Return an English text as Whisper's English normaliser rewrites it.

    Besides style, it drops fillers (uh, um, hmm), spells contractions and titles out (don't, Dr), writes numbers in
    digits (twenty five dollars, $25) and British spellings as American ones.

    Args:
        text: The text.
        spellings: Pairs of a British and an American spelling; None for a short list of our own.
    """
    plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    digits = "".join(str(unicodedata.decimal(one)) if unicodedata.category(one) == "Nd" else one for one in plain)
    # Of an ellipsis at the end, Whisper's normaliser leaves a dot, which would count as a word.
    return " ".join(_english_normaliser(spellings)(_ELLIPSIS.sub(" ", digits)).split())


@cache
def _english_normaliser(spellings: tuple[tuple[str, str], ...] | None) -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer(AMERICAN if spellings is None else dict(spellings))


def has_style(text: str) -> bool:
    """Return whether a text has punctuation, symbols or digits, which others may write in another way."""
    return any(_is_style(character) for character in text)


@cache
def _is_style(character: str) -> bool:
    category = unicodedata.category(character)
    return category == "Nd" or (category[0] in "PS" and character not in _NO_STYLE)


def split_characters(text: str) -> str:
    """Return a text with spaces around each character of scripts without spaces: Chinese, Japanese, Thai, ...

    Marks stay with their letter. There, a character is what a word is elsewhere, so that the word error rate is the
    character error rate, as is the custom; words of other scripts in the same text stay words.
    """
    if text.isascii():
        return text
    parts: list[str] = []
    for character in text:
        if parts and unicodedata.category(character)[0] == "M":
            parts[-1] = parts[-1].rstrip(" ") + character + (" " if parts[-1].endswith(" ") else "")
        else:
            parts.append(f" {character} " if _is_spaceless(character) else character)
    return " ".join("".join(parts).split())


@cache
def _is_spaceless(character: str) -> bool:
    return unicodedata.category(character)[0] == "L" and unicodedata.name(character, "").startswith(_THEIR_SCRIPTS)
