"""The result of a tuning, and the type of the functions that are tunings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from adapt.data.selection import Selection
from adapt.data.tuning_data import TuningData
from adapt.models.model import Model


@dataclass(frozen=True)
class Tuned:
    """The names of the parameters that may train, and how they were selected: by part of a mix, "" for a single tuning.

    A tuning may also have added trainable rows (`interventions/rows.py`) or factors (`adapt/models/factors.py`) to the
    model; these are then among the names, and are merged into the weights after training.
    """

    names: tuple[str, ...]
    selections: dict[str, Selection] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Sequence[str], selection: Selection | None = None) -> "Tuned":
        """Return the result of a single tuning, one that is not a mix."""
        return cls(tuple(names), {} if selection is None else {"": selection})

    @property
    def summary(self) -> str:
        """One sentence for each selection; empty if nothing was selected by a measure."""
        return " ".join(selection.summary for selection in self.selections.values())


Tuning = Callable[[Model, TuningData | None], Tuned]
