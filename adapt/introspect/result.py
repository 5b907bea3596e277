"""The interface of a measure's result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class MeasureResult(Protocol):
    """The result of a measure: plain data without a model, which can be saved, loaded and drawn again.

    A class that implements it also has a classmethod `load(folder)`, which reads what `save` wrote.
    """

    @property
    def figures(self) -> Mapping[str, Any]:
        """The numbers for `metrics.json`: JSON values without NaN."""
        ...

    @property
    def summary(self) -> str:
        """The result in a sentence or two."""
        ...

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> list[Path]:
        """Write the result to a folder, each file atomically, and return the paths of the files.

        `provenance` names the model and the data of the result. It goes into the headers of the files.
        """
        ...
