"""The alphabet of a CTC model: the character of each output unit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from adapt.data.text import lower_letters, normalise
from adapt.errors import InputError
from adapt.models.spelling import Spelling, spelling_of

ENGLISH = " 'abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Labels:
    """The character of each output unit, in order; "" at index `blank`, for the CTC blank.

    Raises:
        InputError: there is no "" at index `blank`, there is no other label, a label occurs twice, or a label is not a
            single character in lower case, or is white space other than a plain space.
    """

    characters: tuple[str, ...]
    blank: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.blank < len(self.characters) or self.characters[self.blank] != "":
            raise InputError(f"The blank must be label {self.blank}, written as ''; got {list(self.characters)}.")
        written = [character for unit, character in enumerate(self.characters) if unit != self.blank]
        repeated = sorted({character for character in written if written.count(character) > 1})
        invalid = [
            character
            for character in written
            if len(character) != 1
            or lower_letters(character) != character
            or " ".join(f"a{character}a".split()) != f"a{character}a"
        ]
        if not written:
            raise InputError("There must be at least one label besides the blank, got none.")
        if repeated:
            raise InputError(f"Each label must occur once, got {repeated[0]!r} more than once.")
        if invalid:
            raise InputError(f"Labels must be single lower-case characters, got {invalid[0]!r}.")

    @classmethod
    def of(cls, characters: str | Iterable[str]) -> "Labels":
        """Return the labels for these characters, with the blank first."""
        return cls(("", *characters))

    def __len__(self) -> int:
        return len(self.characters)

    def missing(self, text: str) -> list[str]:
        """Return the characters of `text` that the alphabet lacks, sorted and without repetition."""
        return self._spelling.missing(text)

    def extended(self, texts: Iterable[str]) -> "Labels":
        """Return these labels followed by the new characters of `texts`, sorted."""
        new = sorted({character for text in texts for character in self.missing(text)})
        return Labels((*self.characters, *new), self.blank)

    def encode(self, text: str) -> list[int]:
        """Return the output unit of each character of `text`. Raises InputError for characters outside the alphabet."""
        missing = self.missing(text)
        if missing:
            raise InputError(
                f"{text!r} contains {_quoted(missing)}, outside the model's alphabet {_quoted(self.characters)}."
            )
        units = _units(self.characters, self.blank)
        return [units[character] for character in self._spelling.spell(text)]

    @property
    def _spelling(self) -> Spelling:
        return spelling_of(self.characters)

    def decode(self, units: Sequence[int]) -> str:
        """Return the text of a CTC path, one unit per frame (Graves et al. 2006): merge repeats, then drop blanks."""
        return normalise("".join(self.characters[unit] for unit in spelled(units, self.blank)))


def spelled(path: Sequence[int], blank: int) -> list[int]:
    """Return the units that a CTC path spells: merge repeats, then drop blanks."""
    merged = [unit for previous, unit in zip([blank, *path], path, strict=False) if unit != previous]
    return [unit for unit in merged if unit != blank]


def _quoted(characters: Iterable[str]) -> str:
    return ", ".join(repr(character) for character in characters if character)


@lru_cache(maxsize=64)
def _units(characters: tuple[str, ...], blank: int) -> dict[str, int]:
    return {character: unit for unit, character in enumerate(characters) if unit != blank}
