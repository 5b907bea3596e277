"""Examples: the input that a model reads, with the reference text that it should output."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Phoneme:
    """A phoneme of an utterance: its IPA symbol, its start and its end (seconds from the start of the utterance)."""

    symbol: str
    start: float
    end: float


class Example(Protocol):
    """One input with its reference text.

    It is an utterance (`adapt.data.manifest`), a recording in memory (`adapt.data.recording`) or a sentence pair
    (`adapt.data.pairs`).
    """

    @property
    def text(self) -> str:
        """The reference: a transcript or a translation."""
        ...

    @property
    def name(self) -> str:
        """The name in reports and messages: an audio file or an id."""
        ...

    @property
    def where(self) -> str:
        """The file and line that the example comes from; empty if it comes from no file."""
        ...

    @property
    def phonemes(self) -> tuple[Phoneme, ...]:
        """The phonemes with their times; empty if they are unknown or the input is text."""
        ...

    def group(self, key: str) -> str:
        """Return the value of `key` ("accent", "domain", ...) as text, or "unknown" if the example has none."""
        ...


def language_of(example: Example) -> str | None:
    """Return the language of an example, the value of its key "lang"; None if it has none."""
    language = example.group("lang")
    return None if language == "unknown" else language
