"""The neurons or layers that a tuning selected by a measure, in the form in which a run saves them."""

from dataclasses import dataclass
from pathlib import Path

from adapt.errors import as_input_errors
from interventions.files import FileError, read_tensors
from interventions.neurons import Neurons

_STEMS = ("selection", "choice")  # the stem of the files' names now, and up to version 0.1


@dataclass(frozen=True)
class Selection:
    """The chosen neurons, and a sentence on how they were chosen. If whole layers were chosen, `layers` names them."""

    neurons: Neurons
    summary: str
    layers: tuple[str, ...] | None = None

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        layers = None if self.layers is None else list(self.layers)
        self.neurons.save(path, summary=self.summary, layers=layers)

    @classmethod
    def load(cls, path: Path) -> "Selection":
        """Read what `save` wrote. Raises FileError if the file is damaged or of another kind."""
        header = read_tensors(path, "neurons")[0]
        layers = header.get("layers")
        summary = header.get("summary", header.get("said", ""))
        if layers is not None and not (isinstance(layers, list) and all(isinstance(name, str) for name in layers)):
            raise FileError(f"'{path}' is damaged: its layers are not a list of names. Create it again.")
        return cls(Neurons.load(path), str(summary), None if layers is None else tuple(layers))


def save_selections(folder: Path, selections: dict[str, Selection]) -> None:
    """Write each selection to `selection.safetensors`, or to `selection-PART.safetensors` for part of a mix."""
    for part, selection in selections.items():
        selection.save(folder / f"selection{f'-{part}' if part else ''}.safetensors")


def load_selections(folder: Path) -> dict[str, Selection]:
    """Return the selections that a run saved, by the part of its mix of tunings; empty if the run saved none.

    Raises:
        InputError: a file cannot be read or is damaged.
    """
    found: dict[str, Selection] = {}
    for stem in reversed(_STEMS):
        for path in sorted(folder.glob(f"{stem}*.safetensors")):
            if path.stem == stem or path.stem.startswith(f"{stem}-"):
                with as_input_errors():
                    found[path.stem.removeprefix(stem).removeprefix("-")] = Selection.load(path)
    return found
