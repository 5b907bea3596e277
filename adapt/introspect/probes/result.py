"""The result of the measure `probes`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.files import write_json
from adapt.introspect.probes.probe import Probe
from adapt.introspect.stored import read_result
from interventions.files import FileError

FILE = "probes.json"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class ProbesResult:
    """The probes of a model, and of a second one.

    Attributes:
        probes: The probe of each target.
        references: The probe of each target in the second model; empty without one.
        reference_model: The reference of the second model; None without one.
    """

    probes: Mapping[str, Probe]
    references: Mapping[str, Probe] = field(default_factory=dict)
    reference_model: str | None = None

    @property
    def figures(self) -> Mapping[str, Any]:
        """The accuracies at each site, by target and model."""
        figures = {}
        for name, own in self.probes.items():
            figures[name] = {"model": _table(own)}
            if name in self.references:
                figures[name]["reference_model"] = _table(self.references[name])
            figures[name] |= {"chance": own.chance, "classes": list(own.classes)}
        return figures

    @property
    def summary(self) -> str:
        """The site with the highest accuracy for each target."""
        sentences = []
        for name, own in self.probes.items():
            best = max(own.rows, key=lambda row: row.accuracy)
            sentences.append(
                f"The most accurate probe of {name} is at '{best.site}': {100 * best.accuracy:.0f} % correct, chance "
                f"{100 * own.chance:.0f} %, selectivity {100 * best.selectivity:.0f}."
            )
        return " ".join(sentences)

    def save(self, folder: Path | str, provenance: Mapping[str, Any] | None = None) -> list[Path]:
        """Write `probes.json` and a folder for each probe to a folder, and return the paths of the files."""
        folder, facts = Path(folder), provenance or {}
        files = [folder / FILE]
        for name, own in self.probes.items():
            files += own.save(folder / "probes" / name, **facts)
        for name, own in self.references.items():
            files += own.save(folder / "probes" / f"{name}-reference")
        write_json(files[0], {"format": FORMAT, "targets": list(self.probes), "reference_model": self.reference_model})
        return files

    @classmethod
    def load(cls, folder: Path | str) -> "ProbesResult":
        """Read what `save` wrote. Raises FileError if a file is missing or damaged."""
        folder = Path(folder)
        header = read_result(folder / FILE, FORMAT)
        try:
            targets, reference_model = list(header["targets"]), header["reference_model"]
        except (KeyError, TypeError) as error:
            raise FileError(f"'{folder / FILE}' is not a list of probes ({error}).") from None
        probes = {name: Probe.load(folder / "probes" / name) for name in targets}
        references = {}
        if reference_model is not None:
            references = {name: Probe.load(folder / "probes" / f"{name}-reference") for name in targets}
        return cls(probes, references, reference_model)


def _table(probe: Probe) -> dict[str, Any]:
    return {
        row.site: {
            "accuracy": row.accuracy,
            "interval": list(row.interval),
            "control": row.control,
            "selectivity": row.selectivity,
        }
        for row in probe.rows
    }
