"""What training returns: the trained model, with what is needed to save, compare and describe it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.blending.front import Front
from adapt.data.selection import Selection
from adapt.models.adaptation_files import save_adaptation
from adapt.models.factors import Factors
from adapt.models.loaded import Loaded
from adapt.models.model_files import save_model


@dataclass(frozen=True)
class Adapted:
    """A trained model with its base and the record of its training.

    Attributes:
        base: The model that training started from.
        loaded: The trained model, in eval mode.
        trained: Names of the parameters that were trained, in whole or in part.
        rows: For each parameter of which only some rows were trained: the number of these rows.
        factors: Trained factors (LoRA and the like), which are merged into the weights.
        factor_counts: For each weight that factors were merged into: the number of trained values in these factors.
        grids: The topographic grids of the model, in the form that files store; empty if it has none.
        history: One row per epoch: losses, metrics, learning rate, seconds.
        selections: The neurons or layers that were chosen to train, by part of a mix ("" for a single tuning).
        skipped: For each example that could not be used: a sentence that says why.
        seconds: The wall-clock time of the run so far, earlier interrupted processes included.
        front: The blends with the base that were measured, and the chosen one; None if there was no search.
        unblended: What was trained, before it was blended with the base; None if it was not.
        facts: Further facts for the files: `blend`, the factor of the blend.
    """

    base: Loaded
    loaded: Loaded
    trained: tuple[str, ...]
    rows: Mapping[str, int]
    factors: Sequence[Factors]
    factor_counts: Mapping[str, int]
    grids: Mapping[str, Any]
    history: list[dict[str, float]]
    selections: Mapping[str, Selection] = field(default_factory=dict)
    skipped: Sequence[str] = ()
    seconds: float = 0.0
    front: Front | None = None
    unblended: "Adapted | None" = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """The record of the training that is stored in the files of the adaptation."""
        return {
            "trained": list(self.trained),
            "trained_rows": dict(self.rows),
            "trained_factors": dict(self.factor_counts),
            **self.grids,
            **self.facts,
        }

    @property
    def selection_summary(self) -> str:
        """One sentence for each selection; empty if nothing was chosen by a measure."""
        return " ".join(selection.summary for selection in self.selections.values())

    def save(self, folder: Path | str) -> None:
        """Write an adaptation: the tensors that differ from the base, and which base that is."""
        save_adaptation(Path(folder), self.base, self.loaded.model, self.factors, **self.record)

    def save_model(self, path: Path | str, half: bool = False, **facts: Any) -> None:
        """Write the whole model as one safetensors file with `facts` in its header. `half` stores 16-bit matrices."""
        save_model(Path(path), self.loaded.model, half, **{**self.grids, **facts})
