"""What a tuning may look at when it chooses what trains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError


@dataclass(frozen=True)
class TuningData:
    """Examples of the target, and of the source (none where the data have none), and how they are batched.

    They are training data: what a run is judged by has no part in a choice. `kept` is the file where a choice is kept:
    a run that goes on after it was killed, and each further process of one, reads it instead of choosing again.
    """

    target: Sequence[Example]
    source: Sequence[Example]
    loader: Loader
    kept: Path | None = None

    def of_part(self, name: str) -> "TuningData":
        """The same for one part of a mix of tunings, whose choice has a file of its own: `choice-NAME.safetensors`."""
        return self if self.kept is None else replace(self, kept=self.kept.with_stem(f"{self.kept.stem}-{name}"))

    def few(self, examples: int | None) -> "TuningData":
        """At most so many of the target and of the source, evenly spaced in their order; None: all.

        Raises:
            InputError: it is no number above 0.
        """
        if examples is None:
            return self
        if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
            raise InputError(f"examples is how many of target and source are looked at, 1 or more; got {examples!r}.")
        return replace(self, target=_spaced(self.target, examples), source=_spaced(self.source, examples))


def _spaced(examples: Sequence[Example], most: int) -> list[Example]:
    count = min(most, len(examples))
    return [examples[number * len(examples) // count] for number in range(count)]
