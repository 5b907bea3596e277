"""The result of the measure `weights`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.files import read_json
from adapt.introspect.weights.measures import FILE, WeightMeasures
from interventions.files import FileError

FORMAT = 2  # earlier versions of the file did not name the model before training


@dataclass(frozen=True, eq=False)
class WeightsResult:
    """How the weights of a model differ from those of another one.

    Attributes:
        measures: The changes by parameter and by neuron.
        before: The reference of the model before training.
        level: Probability of at least one false positive among the flagged neurons.
    """

    measures: WeightMeasures
    before: str
    level: float = 0.01

    @property
    def figures(self) -> Mapping[str, Any]:
        """Counts of changed parameters and neurons, and the median change at each site."""
        incoming, floor = self.measures.incoming, self.measures.floor
        sites: dict[str, dict[str, Any]] = {
            site.name: {"median": float(incoming[site].median())} for site in incoming.sites
        }
        figures: dict[str, Any] = {
            "before": self.before,
            "parameters": len(self.measures.parameters),
            "parameters_changed": sum(one.changed > 0 for one in self.measures.parameters),
            "neurons": len(incoming),
            "neurons_changed": sum(int((incoming[site] > 0).sum()) for site in incoming.sites),
            "sites": sites,
        }
        if floor is not None:
            flagged = self.measures.flagged(self.level)
            figures["flagged"] = len(flagged)
            for site in incoming.sites:
                sites[site.name] |= {"floor": float(floor[site].median()), "flagged": list(flagged[site])}
        return figures

    @property
    def summary(self) -> str:
        """How many weights changed, and where they changed most."""
        figures = self.figures
        sentences = [
            f"{figures['parameters_changed']} of {figures['parameters']} parameters and the weights of "
            f"{figures['neurons_changed']:,} of {figures['neurons']:,} neurons differ from those of {self.before}."
        ]
        moved = [one for one in self.measures.parameters if one.relative]
        if moved:
            most = max(moved, key=lambda one: one.relative or 0.0)
            chance = "" if most.floor is None else f" ({100 * most.floor:.2g} % by chance)"
            sentences.append(
                f"'{most.name}' changed most, by {100 * (most.relative or 0.0):.2g} % of its norm{chance}."
            )
        if "flagged" in figures:
            sentences.append(
                f"Both runs moved {figures['flagged']:,} neurons in the same direction, by more than chance at "
                f"{100 * self.level:g} %."
            )
        return " ".join(sentences)

    def save(self, folder: Path | str, provenance: Mapping[str, Any] | None = None) -> list[Path]:
        """Write `weights.json` and the scores of the neurons to a folder, and return the paths of the files."""
        header = {"format": FORMAT, "before": self.before, "level": self.level}
        return self.measures.save(folder, header, **(provenance or {}))

    @classmethod
    def load(cls, folder: Path | str) -> "WeightsResult":
        """Read what `save` wrote. Raises FileError if a file is missing or damaged."""
        measures = WeightMeasures.load(folder)
        path = Path(folder) / FILE
        header = read_json(path)
        if "before" not in header or "level" not in header:
            raise FileError(f"'{path}' does not name the model before training. Measure again.")
        return cls(measures, header["before"], header["level"])
