"""The result of steering: the vectors, their effect on both groups, and the setting chosen on validation data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapt.comparison.results import signatures
from adapt.errors import InputError
from adapt.evaluation.sweep import SweepPoint
from adapt.files import read_json, write_json
from adapt.metrics import Metric
from interventions.steer import Steer
from interventions.store import describe, load, save

CONTROL = ", random "  # between the group and the number of a control


@dataclass(frozen=True)
class Setting:
    """The best site and coefficient on validation data, and whether they improve on the unmodified model."""

    site: str
    coefficient: float
    better: bool = True


@dataclass(frozen=True)
class SteeringResult:
    """Steering vectors and their effects, as plain data.

    Attributes:
        fingerprint: The fingerprint of the model that the vectors are for.
        steers: For each site name, the intervention that adds the site's vector with coefficient 1.
        provenance: How the vectors were fitted: "group_by", "from", "to", "method" and "counts".
        metrics: The metrics that were measured, the most important first.
        example_name: The task's word for an example: utterance or sentence.
        unmodified: The metrics of the unmodified model on each group, as `TextScores.as_dict` returns them.
        points: The results for each site (`chart`), group (`line`) and coefficient (`value`).
        chosen: The best setting; None without validation data.
        chosen_on: The number of validation examples, all of the first group, on which the setting was chosen.
    """

    fingerprint: str
    steers: Mapping[str, Steer]
    provenance: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    example_name: str
    unmodified: Mapping[str, Mapping[str, Any]]
    points: Sequence[SweepPoint]
    chosen: Setting | None = None
    chosen_on: int = 0

    @property
    def groups(self) -> tuple[str, str]:
        """The group that the vectors point away from, and the group that they point to."""
        return self.provenance["from"], self.provenance["to"]

    @property
    def norms(self) -> dict[str, float]:
        """The length of each site's vector."""
        return {name: float(steer.vector.norm()) for name, steer in self.steers.items()}

    def figures(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`."""
        return {
            "points": [point.as_dict() for point in self.points],
            "unmodified": dict(self.unmodified),
            "chosen": None if self.chosen is None else asdict(self.chosen),
            "chosen_on": self.chosen_on,
            "norms": self.norms,
            "metrics": [asdict(metric) for metric in self.metrics],
            "example_name": self.example_name,
            **signatures(self.metrics),
        }

    def save_vectors(self, folder: Path, **provenance: Any) -> None:
        """Write every vector to `vectors.safetensors`, and the chosen one to `steering.safetensors`."""
        provenance = {**self.provenance, **provenance}
        save(folder / "vectors.safetensors", dict(self.steers), self.fingerprint, **provenance)
        if self.chosen is not None:
            site, vector = self.steers[self.chosen.site].site, self.steers[self.chosen.site].vector
            steer = Steer(site, vector, self.chosen.coefficient)
            chosen_on = f"validation, {self.chosen_on} {self.example_name}s of {self.groups[0]}"
            save(
                folder / "steering.safetensors", {site.name: steer}, self.fingerprint, **provenance, chosen_on=chosen_on
            )

    def save(self, folder: Path | str) -> None:
        """Write the vectors and `metrics.json`."""
        self.save_vectors(Path(folder))
        write_json(Path(folder) / "metrics.json", {**self.figures(), "provenance": dict(self.provenance)})

    @classmethod
    def load(cls, folder: Path | str) -> "SteeringResult":
        """Read what `save`, or a run of `innertune steer`, wrote.

        Raises:
            InputError: The folder does not contain the result of steering.
        """
        folder = Path(folder)
        try:
            values = read_json(folder / "metrics.json")
            described = describe(folder / "vectors.safetensors")
            fingerprint = described["model"]["fingerprint"]
            steers = {
                name: steer
                for name, steer in load(folder / "vectors.safetensors", fingerprint).items()
                if isinstance(steer, Steer)
            }
            unmodified = values["unmodified"]
            points = [
                SweepPoint.from_dict(point, unmodified[point["line"].partition(CONTROL)[0]])
                for point in values["points"]
            ]
            return cls(
                fingerprint,
                steers,
                described["provenance"],
                tuple(Metric(**metric) for metric in values["metrics"]),
                values["example_name"],
                unmodified,
                points,
                None if values["chosen"] is None else Setting(**values["chosen"]),
                values["chosen_on"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"'{folder}' does not hold the result of steering ({error}).") from None

    def summary(self) -> str:
        """Return a sentence about the chosen setting: its effect on both groups, and that of a random vector."""
        metric, (away, toward) = self.metrics[0], self.groups
        settings = len({(point.chart, point.value) for point in self.points})
        if self.chosen is None:
            return (
                f"{settings} settings were evaluated. None was chosen, because there are no validation "
                f"{self.example_name}s of {away}."
            )
        site, coefficient = self.chosen.site, self.chosen.coefficient
        here = [point for point in self.points if point.chart == site and point.value == coefficient]
        by_group = {point.line: point for point in here if not point.control}
        better = "" if self.chosen.better else ", but none was better than the unmodified model"
        text = (
            f"Steering at {site} with coefficient {coefficient:g} (the best of {settings} settings on validation "
            f"data{better}) {_effect(away, by_group[away], metric)}, and {_effect(toward, by_group[toward], metric)}"
        )
        controls = [point for point in here if point.control and point.line.startswith(f"{away}{CONTROL}")]
        if controls:
            mean = metric.scale * sum(point.quality[metric.key] for point in controls) / len(controls)
            text += f". A random vector of the same length changes {away} to {mean:.1f}{_unit(metric)}"
        return f"{text}."


def _effect(group: str, point: SweepPoint, metric: Metric) -> str:
    """Describe the effect on a group: `WER on ann from 50.0 to 40.0 %`, or that there is none."""
    before, after = (metric.scale * values[metric.key] for values in (point.unmodified, point.quality))
    low, high = (metric.scale * end for end in point.difference[metric.key])
    difference = f"{low:+.1f} to {high:+.1f}".replace("-", "−")
    values = f"{before:.1f} to {after:.1f}{_unit(metric)}, 95 % interval of the difference {difference}"
    if low <= 0 <= high:
        return f"has no effect on {group} ({metric.label} {values}, which includes 0)"
    return f"changes {group} ({metric.label} {values})"


def _unit(metric: Metric) -> str:
    return " %" if metric.percent else ""
