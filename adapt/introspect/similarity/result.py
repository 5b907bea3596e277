"""The result of the measure `similarity`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.introspect.similarity.similarity import FILE, NAMES, Similarity
from interventions.files import FileError, read_tensors


@dataclass(frozen=True, eq=False)
class SimilarityResult:
    """The similarity of layers, with the references of the models.

    Attributes:
        similarity: The matrix of similarities.
        model: The reference of the model whose layers are its rows.
        reference_model: The reference of the model whose layers are its columns; None if it is the same model.
    """

    similarity: Similarity
    model: str
    reference_model: str | None = None

    @property
    def figures(self) -> Mapping[str, Any]:
        """The matrix of similarities, with the names of its rows and columns."""
        own = self.similarity
        matrix = [[None if value != value else value for value in row] for row in own.matrix.tolist()]
        return {
            "method": own.method,
            "count": own.count,
            "sample_by": own.sample_by,
            "reference_model": self.reference_model,
            "rows": list(own.rows),
            "columns": list(own.columns),
            "matrix": matrix,
        }

    @property
    def summary(self) -> str:
        """The pair of neighbouring layers, or the layer of both models, with the lowest similarity."""
        own, method = self.similarity, NAMES[self.similarity.method]
        if self.reference_model is None:
            pairs = [(own.between(a, b), a, b) for a, b in zip(own.rows, own.rows[1:], strict=False)]
        else:
            pairs = [(own.between(name, name), name, name) for name in own.rows if name in own.columns]
        if not pairs:
            return f"{len(own.rows)} layers were compared with {len(own.columns)} layers by {method}."
        lowest, first, second = min(pairs)
        if self.reference_model is None:
            return f"The least similar neighbouring layers by {method} are '{first}' and '{second}' ({lowest:.2f})."
        return (
            f"The layer that differs most between the models by {method} is '{first}' ({lowest:.2f}; 1 is no change)."
        )

    def save(self, folder: Path | str, provenance: Mapping[str, Any] | None = None) -> list[Path]:
        """Write `similarity.safetensors` to a folder, and return the path of the file."""
        return self.similarity.save(folder, **{**(provenance or {}), "compared": [self.model, self.reference_model]})

    @classmethod
    def load(cls, folder: Path | str) -> "SimilarityResult":
        """Read what `save` wrote. Raises FileError if the file is missing or damaged."""
        similarity = Similarity.load(folder)
        header, _ = read_tensors(Path(folder) / FILE, "similarity")
        try:
            model, reference_model = header["compared"]
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"'{Path(folder) / FILE}' does not name the models that it compares ({error}).") from None
        return cls(similarity, model, reference_model)
