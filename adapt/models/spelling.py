"""Spell a text with the characters of a vocabulary, which may be composed letters, or letters and marks apart."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from adapt.data.text import lower_letters

# Written with other letters if the vocabulary lacks them: the final sigma, the Dutch letter ij.
_SUBSTITUTES = {"\u03c2": "\u03c3", "\u0133": "ij"}


class Spelling:
    """Spells texts with the characters of a vocabulary.

    Unicode has several spellings of a letter: one character, or a letter and its marks (canonical equivalence, Unicode
    Standard Annex 15). A vocabulary may contain either, both, or one that no normal form uses, such as Bengali U+09DF.
    Characters of the text that the vocabulary contains stay as they are, as in a tokenizer that looks up one character
    after another; all others are replaced by an equivalent spelling, if the vocabulary has one.

    Args:
        characters: The characters of the vocabulary, in lower case. Longer or empty ones are ignored.
    """

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = frozenset(one for one in characters if len(one) == 1)
        forms = {one: unicodedata.normalize("NFD", one) for one in sorted(self.characters)}
        self._by_start: dict[str, list[tuple[str, str]]] = {}
        for character, form in sorted(forms.items(), key=lambda item: -len(item[1])):
            self._by_start.setdefault(form[0], []).append((character, form))
        self._joining = {part for form in forms.values() for part in form[1:]}
        self._known: dict[str, tuple[str, ...]] = {}
        self._joining_known: dict[str, bool] = {}
        self._last: tuple[str, str | None, tuple[str, ...]] = ("", None, ())

    def spell(self, text: str, language: str | None = None) -> list[str]:
        """Return the characters of a text in lower case, with single spaces; some may be outside the vocabulary."""
        given, known_as, spelled = self._last  # a check spells the same text several times
        if (given, known_as) != (text, language):
            plain = " ".join(lower_letters(text, language).split())
            spelled = tuple(one for segment in self._segments(plain) for one in self._spelled(segment))
            self._last = text, language, spelled
        return list(spelled)

    def missing(self, text: str, language: str | None = None) -> list[str]:
        """Return the characters of a text that the vocabulary lacks, sorted and without repetition."""
        return sorted({*self.spell(text, language)} - self.characters)

    def _segments(self, text: str) -> Iterator[str]:
        """Split a text into letters with their marks, and with the parts that they could be composed with."""
        start = 0
        for place in range(1, len(text) + 1):
            if place == len(text) or not self._joins(text[place]):
                yield text[start:place]
                start = place

    def _joins(self, character: str) -> bool:
        known = self._joining_known.get(character)
        if known is None:
            known = unicodedata.combining(character) > 0 or unicodedata.normalize("NFD", character)[0] in self._joining
            self._joining_known[character] = known
        return known

    def _spelled(self, segment: str) -> tuple[str, ...]:
        if segment in self._known:
            return self._known[segment]
        if self.characters.issuperset(segment):
            found: Sequence[str] | None = segment
        else:
            composed = unicodedata.normalize("NFC", segment)
            found = self._equivalent(unicodedata.normalize("NFD", segment))
            if found is None and len(composed) > 1:  # name the parts that are missing only
                found = [one for part in composed for one in self._spelled(part)]
            elif found is None:
                other = _SUBSTITUTES.get(composed, "")
                found = other if other and self.characters.issuperset(other) else composed
        self._known[segment] = tuple(found)
        return self._known[segment]

    def _equivalent(self, form: str) -> list[str] | None:
        """Return a spelling of a text in the form NFD, with the longest characters first; None if there is none."""
        if not form:
            return []
        for character, parts in self._by_start.get(form[0], ()):
            rest = _without(form, parts)
            # Marks of the same kind must keep their order.
            if rest is None or unicodedata.normalize("NFD", character + rest) != form:
                continue
            following = self._equivalent(rest)
            if following is not None:
                return [character, *following]
        return None


@lru_cache(maxsize=64)
def spelling_of(characters: tuple[str, ...]) -> Spelling:
    """Return the `Spelling` of a vocabulary."""
    return Spelling(characters)


def _without(text: str, parts: str) -> str | None:
    """Return `text` without the first occurrence of each of `parts`, in their order; None if one does not occur."""
    kept, place = "", 0
    for part in parts:
        found = text.find(part, place)
        if found < 0:
            return None
        kept += text[place:found]
        place = found + 1
    return kept + text[place:]
