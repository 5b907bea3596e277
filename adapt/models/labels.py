"""The alphabet of a CTC model: which output unit stands for which character."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adapt.data.text import normalise
from adapt.errors import InputError

ENGLISH = " 'abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Labels:
    """Characters in the order of the output units; `characters[blank]` is CTC's blank and is written as "".

    Raises:
        InputError: the blank is not where it is said to be, there is no other label, or a label is not one character as
            `normalise` leaves it (lower case, composed, a plain space), or occurs twice.
    """

    characters: tuple[str, ...]
    blank: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.blank < len(self.characters) or self.characters[self.blank] != "":
            raise InputError(f"Label {self.blank} of {list(self.characters)} must be the blank, written as ''.")
        spoken = [character for unit, character in enumerate(self.characters) if unit != self.blank]
        twice = sorted({character for character in spoken if spoken.count(character) > 1})
        unfit = [
            character for character in spoken if len(character) != 1 or normalise(f"a{character}a") != f"a{character}a"
        ]
        if not spoken or twice or unfit:
            raise InputError(
                "Labels must be single lower-case characters, each once; "
                + (f"got {(twice or unfit)[0]!r}{' more than once' if twice else ''}." if spoken else "got none.")
            )

    @classmethod
    def of(cls, characters: str | Iterable[str]) -> "Labels":
        """The labels for these characters, the blank put before them."""
        return cls(("", *characters))

    def __len__(self) -> int:
        return len(self.characters)

    def missing(self, text: str) -> list[str]:
        """The characters of `text` that the alphabet lacks, sorted, each once."""
        return sorted(set(normalise(text)) - set(self.characters))

    def extended(self, texts: Iterable[str]) -> "Labels":
        """These labels with the new characters of `texts` behind them, sorted."""
        new = sorted({character for text in texts for character in self.missing(text)})
        return Labels((*self.characters, *new), self.blank)

    def encode(self, text: str) -> list[int]:
        """The output unit of each character of `text`. Raises InputError for characters outside the alphabet."""
        missing = self.missing(text)
        if missing:
            raise InputError(
                f"{text!r} has {_quoted(missing)}, outside the model's alphabet {_quoted(self.characters)}."
            )
        units = {character: unit for unit, character in enumerate(self.characters) if unit != self.blank}
        return [units[character] for character in normalise(text)]

    def decode(self, units: Sequence[int]) -> str:
        """The text of a CTC path, one unit a frame: repeats are joined, then blanks dropped (Graves et al. 2006)."""
        return normalise("".join(self.characters[unit] for unit in spelled(units, self.blank)))


def spelled(path: Sequence[int], blank: int) -> list[int]:
    """The units that a path of one a time step spells: repeats are joined, then blanks dropped."""
    joined = [unit for previous, unit in zip([blank, *path], path, strict=False) if unit != previous]
    return [unit for unit in joined if unit != blank]


def _quoted(characters: Iterable[str]) -> str:
    return ", ".join(repr(character) for character in characters if character)
