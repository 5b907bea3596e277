"""The training data on which a tuning selects what to train."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapt.checks import check_count
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.subset import evenly


@dataclass(frozen=True)
class TuningData:
    """Training examples for tunings, penalties and scores. Validation and test examples are never among them.

    Attributes:
        target: examples of the target, which the model adapts to.
        source: examples of the source, which the model should not forget; may be empty.
        loader: makes batches of them.
        kept: the file of a tuning's selection, or None. A resumed run, and every further process of a run, reads the
            selection from it and does not select again.
    """

    target: Sequence[Example]
    source: Sequence[Example]
    loader: Loader
    kept: Path | None = None

    def of_part(self, name: str) -> "TuningData":
        """Return the data for one part of a mix of tunings, whose selection has a file of its own."""
        return self if self.kept is None else replace(self, kept=self.kept.with_stem(f"{self.kept.stem}-{name}"))

    def few(self, examples: int | None) -> "TuningData":
        """Return at most `examples` target and source examples, evenly spaced; all of them if it is None.

        Raises:
            InputError: `examples` is not a whole number of at least 1.
        """
        if examples is None:
            return self
        check_count("examples", examples, 1)
        return replace(self, target=evenly(self.target, examples), source=evenly(self.source, examples))
