"""The result of `measure=bias`: the error rates of groups, and the layers and neurons that respond differently."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adapt.files import write_json
from adapt.formatting import amount, counted, points_range, short_names
from adapt.introspect.bias.bias_json import (
    FORMAT,
    comparison_from_json,
    comparison_to_json,
    file_stem,
    neuron_to_json,
    rate_from_json,
    rate_to_json,
    upgrade,
)
from adapt.introspect.bias.group_results import GroupComparison, GroupRate
from adapt.introspect.stored import read_result
from adapt.introspect.topography.maps import TopographicMap
from adapt.metrics import Metric
from interventions.neurons import Neurons, Scores


@dataclass(frozen=True)
class BiasResult:
    """Groups of examples compared with each other.

    Args:
        group_by: The key of the groups.
        example_name: What one example is called: "utterance" or "sentence".
        metric: The metric of the error rates.
        resampled: The unit that is resampled for intervals: "example" or "speaker".
        folds: The number of folds of these units.
        false_discovery_rate: The expected share of false positives among the neurons that are reported.
        left_out: The sizes of the groups that are left out.
        rates: The error rate of each group, the worst group first.
        comparisons: The comparisons, that of the worst group first.
        maps: Maps of the layers that diverge most, with the profiles of reference and group.
    """

    group_by: str
    example_name: str
    metric: Metric
    resampled: str
    folds: int
    false_discovery_rate: float
    left_out: Mapping[str, int]
    rates: tuple[GroupRate, ...]
    comparisons: tuple[GroupComparison, ...]
    maps: tuple[TopographicMap, ...] = ()

    @cached_property
    def short_names(self) -> dict[str, str]:
        """The names of the sites without their common prefix, by name."""
        names = list(dict.fromkeys(row.site for comparison in self.comparisons for row in comparison.layers))
        return dict(zip(names, short_names(names), strict=True))

    def rate_of(self, group: str) -> GroupRate:
        """Return the error rate of a group. Raises KeyError if there is no such group."""
        return {rate.group: rate for rate in self.rates}[group]

    @property
    def figures(self) -> Mapping[str, Any]:
        """The numbers for `metrics.json`."""
        return {
            "group_by": self.group_by,
            "false_discovery_rate": self.false_discovery_rate,
            "resampled": self.resampled,
            "folds": self.folds,
            "left_out": dict(self.left_out),
            "groups": [rate_to_json(rate, self.metric, self.resampled) for rate in self.rates],
            "comparisons": [comparison_to_json(comparison) for comparison in self.comparisons],
        }

    @property
    def summary(self) -> str:
        """The comparisons in which the group is significantly worse, at most three, in sentences."""
        worse = [each for each in self.comparisons if self.rate_of(each.group).worse]
        shown = worse[:3] or list(self.comparisons[:1])
        text = " ".join(f"{self.rate_summary(each)} {self.divergence_summary(each)}" for each in shown)
        others = len(self.comparisons) - len(shown)
        if others:
            verb = "is" if others == 1 else "are"
            text += f" {counted(others, 'more comparison')} {verb} on the page"
            text += "." if len(worse) > len(shown) else ", without a significantly higher error rate."
        return text

    def rate_summary(self, comparison: GroupComparison) -> str:
        """Return the error rates of a group and its reference in a sentence."""
        rate, metric = self.rate_of(comparison.group), self.metric
        text = f"{comparison.group}: {metric.label} {amount(rate.rate, metric)}"
        if rate.reference_rate is not None and rate.difference_interval is not None:
            text += f", compared with {amount(rate.reference_rate, metric)} for {comparison.reference}"
            text += f" (difference {points_range(rate.difference_interval, metric, rate.units)})"
        return f"{text}."

    def divergence_summary(self, comparison: GroupComparison) -> str:
        """Return how many neurons of a comparison diverge in a sentence or two."""
        units = sum(row.units for row in comparison.layers)
        if not comparison.neurons:
            return f"None of {counted(units, 'neuron')} diverges significantly."
        top = next(row for row in comparison.layers if row.site == comparison.top_site)
        linked = sum(bool(row.error_linked) for row in comparison.neurons)
        return (
            f"The divergence is largest at {self.short_names[top.site]}: {top.diverging:,} of "
            f"{counted(top.units, 'neuron')} diverge, {top.error_linked:,} of them linked to errors. In total, "
            f"{len(comparison.neurons):,} of {counted(units, 'neuron')} diverge, {linked:,} of them linked to errors."
        )

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> list[Path]:
        """Write `bias.json`, the scores, the neurons and the maps, and return the paths of the files."""
        files: list[Path] = []
        scores = {}
        for comparison in self.comparisons:
            facts = {"group": comparison.group, "reference": comparison.reference, "group_by": self.group_by}
            stem = file_stem(comparison.group)
            for kind, suffix, value in _neuron_files(comparison):
                path = folder / kind / f"{stem}{suffix}.safetensors"
                if path in files:  # another group whose name differs only in punctuation
                    path = folder / kind / f"{stem}{suffix}-{self._number(comparison.group)}.safetensors"
                value.save(path, **facts, **provenance)
                files.append(path)
                if kind == "scores":
                    scores[comparison.group] = str(path.relative_to(folder))
        maps = [
            folder / "maps" / f"{file_stem(drawn.name)}-{number}.safetensors" for number, drawn in enumerate(self.maps)
        ]
        for path, drawn in zip(maps, self.maps, strict=True):
            drawn.save(path, **provenance)
        table = folder / "bias.json"
        neurons = {each.group: [neuron_to_json(row) for row in each.neurons] for each in self.comparisons}
        stored = {
            "format": FORMAT,
            **self.figures,
            "neurons": neurons,
            "example_name": self.example_name,
            "metric": asdict(self.metric),
            "scores": scores,
            "maps": [str(path.relative_to(folder)) for path in maps],
        }
        write_json(table, stored)
        return [table, *files, *maps]

    @classmethod
    def load(cls, folder: Path | str) -> "BiasResult":
        """Read what `save` wrote, also in version 1 of the format. Raises FileError if a file is damaged."""
        folder = Path(folder)
        stored = upgrade(read_result(folder / "bias.json", FORMAT))
        metric = Metric(**stored["metric"])
        comparisons = []
        for row in stored["comparisons"]:
            group = row["group"]
            scores = Scores.load(folder / stored["scores"][group]) if group in stored["scores"] else None
            comparisons.append(comparison_from_json(row, stored["neurons"][group], scores))
        return cls(
            group_by=stored["group_by"],
            example_name=stored["example_name"],
            metric=metric,
            resampled=stored["resampled"],
            folds=stored["folds"],
            false_discovery_rate=stored["false_discovery_rate"],
            left_out=stored["left_out"],
            rates=tuple(rate_from_json(row, metric, stored["resampled"]) for row in stored["groups"]),
            comparisons=tuple(comparisons),
            maps=tuple(TopographicMap.load(folder / name) for name in stored["maps"]),
        )

    def _number(self, group: str) -> int:
        return sorted(rate.group for rate in self.rates).index(group)


def _neuron_files(comparison: GroupComparison) -> list[tuple[str, str, Scores | Neurons]]:
    """Return the folder, the suffix of the name and the value of each file of a comparison."""
    files: list[tuple[str, str, Scores | Neurons]] = []
    if comparison.scores is not None:
        files.append(("scores", "", comparison.scores))
    if len(comparison.diverging):
        files.append(("neurons", "", comparison.diverging))
    if len(comparison.error_linked):
        files.append(("neurons", "-errors", comparison.error_linked))
    return files
