"""What every task's data have in common: something to read, and the text that a model should write of it."""

from typing import Protocol


class Example(Protocol):
    """An utterance (`adapt.data.manifest`) or a sentence pair (`adapt.data.pairs`)."""

    @property
    def text(self) -> str:
        """What should be written."""

    @property
    def name(self) -> str:
        """What reports and messages call it: its audio file, or its id."""

    @property
    def where(self) -> str:
        """Which line of which file it came from; empty where it came from none."""

    def group(self, key: str) -> str:
        """The value of `key` ("accent", "domain", ...), as text; "unknown" where it has none."""
