"""The data that a tuning may look at when it chooses what to train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.selection import Selection
from adapt.errors import InputError


@dataclass(frozen=True)
class TuningData:
    """Training examples of the target and of the source (empty if there are none), and the loader that batches them.

    Validation and test examples take no part in a choice. `selections` are the choices of an interrupted run, by the
    name of a mix's part ("" for a single tuning): a tuning that finds its own there uses it instead of choosing again.
    """

    target: Sequence[Example]
    source: Sequence[Example]
    loader: Loader
    selections: Mapping[str, Selection] = field(default_factory=dict)

    def of_part(self, name: str) -> "TuningData":
        """Return the data for one part of a mix of tunings, with the saved selections of that part only."""
        inner = {part.removeprefix(name): selection for part, selection in self.selections.items()
                 if part == name or part.startswith(f"{name}-")}  # fmt: skip
        return replace(self, selections={part.removeprefix("-"): own for part, own in inner.items()})

    def subset(self, examples: int | None) -> "TuningData":
        """Return at most `examples` of the target and of the source, evenly spaced in their order; None returns all.

        Raises:
            InputError: `examples` is not a whole number of at least 1.
        """
        if examples is None:
            return self
        if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
            raise InputError(f"examples must be a whole number of at least 1, or null for all; got {examples!r}.")
        return replace(self, target=_spaced(self.target, examples), source=_spaced(self.source, examples))


def _spaced(examples: Sequence[Example], most: int) -> list[Example]:
    count = min(most, len(examples))
    return [examples[number * len(examples) // count] for number in range(count)]
