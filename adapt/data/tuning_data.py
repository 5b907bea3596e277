"""The data that a tuning may use to choose which weights to train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapt.checks import check_count
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.selection import Selection
from adapt.data.subset import evenly


@dataclass(frozen=True)
class TuningData:
    """Training examples of the target and of the source (empty if there are none), and the loader that batches them.

    Validation and test examples are never used for the choice. `selections` has the choices that an interrupted run
    saved, by the name of the part of a mix of tunings ("" for a single tuning). A tuning whose choice is there uses it
    instead of choosing again.
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
        check_count("examples", examples, 1)
        return replace(self, target=evenly(self.target, examples), source=evenly(self.source, examples))
