"""What `measure=bias` found, in numbers, in sentences and as files: error rates, layers and neurons of each group."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adapt.files import write_json
from adapt.introspect.bias.comparisons import Compared
from adapt.introspect.bias.errors import GroupErrors
from adapt.models.model import Model
from interventions.neurons import Neurons, Scores


@dataclass(frozen=True, eq=False)
class MeasuredBias:
    """What was found of groups `by` a key; `left_out` has the sizes of groups that were too small or too many."""

    model: Model
    by: str
    groups: tuple[str, ...]
    left_out: dict[str, int]
    unit: str
    folds: int
    level: float
    errors: GroupErrors
    compared: tuple[Compared, ...]

    @cached_property
    def names(self) -> dict[str, str]:
        """Short names of the sites, by name."""
        from adapt.formatting import short_names

        names = list(dict.fromkeys(site.name for own in self.compared for site in own.partings))
        return dict(zip(names, short_names(names), strict=True))

    @cached_property
    def rates(self) -> list[dict[str, Any]]:
        """The error rate of each group, the highest first, with its interval and the difference from the others."""
        rows = []
        key = self.errors.metric.key
        compared = {own.group: own for own in self.compared}
        for number, name in enumerate(self.groups):
            value, interval = self.errors.rate([number])
            row: dict[str, Any] = {
                "group": name, "examples": self.errors.count(number), self.unit + "s": len(self.errors.units([number])),
                key: value, f"{key}_interval": list(interval),
            }  # fmt: skip
            if name in compared:
                difference, ends = self.errors.difference(number, compared[name].others)
                row |= {"against": compared[name].against, "difference": difference, "difference_interval": list(ends)}
            rows.append(row)
        return sorted(rows, key=lambda row: -row[key])

    @property
    def ordered(self) -> list[Compared]:
        """The comparisons, that of the group that is read worst first."""
        places = {row["group"]: place for place, row in enumerate(self.rates)}
        return sorted(self.compared, key=lambda own: places[own.group])

    @property
    def summary(self) -> Mapping[str, Any]:
        return {
            "by": self.by, "false_discoveries": self.level, "resampled": self.unit, "folds": self.folds,
            "left_out": self.left_out, "groups": self.rates,
            "comparisons": [
                {
                    "group": own.group, "against": own.against, "parted": len(own.neurons),
                    "with_errors": len(own.with_errors), "layers": own.layers(),
                    **({"moved": [moved.as_dict() for moved in own.moved]} if own.moved else {}),
                }
                for own in self.ordered
            ],
        }  # fmt: skip

    @property
    def told(self) -> str:
        from adapt.formatting import counted

        worse = [own for own in self.ordered if self.errors.difference(own.number, own.others)[1][0] > 0]
        shown = worse[:3] or self.ordered[:1]
        said = " ".join(map(self.told_of, shown))
        others = len(self.compared) - len(shown)
        if others:
            clearly = ", none of which is clearly read worse," * (len(worse) <= len(shown))
            said += f" {counted(others, 'more comparison')}{clearly} {'is' if others == 1 else 'are'} on the page."
        return said

    def told_of(self, own: Compared) -> str:
        """A comparison in a sentence."""
        from adapt.formatting import amount, counted, points_range

        metric = self.errors.metric
        rate, theirs = self.errors.rate([own.number])[0], self.errors.rate(own.others)[0]
        ends = self.errors.difference(own.number, own.others)[1]
        said = (
            f"{own.group}: {metric.label} {amount(rate, metric)} against {amount(theirs, metric)} of {own.against} "
            f"(difference {points_range(ends, metric)}); "
        )
        units = sum(site.units for site in own.partings)
        if not len(own.neurons):
            return said + f"no neuron of {units:,} parts beyond chance."
        where = own.site
        there, linked = own.neurons[where], own.with_errors
        here = len(linked[where]) if where in linked.sites else 0
        go = f"{here or 'none'} of which {'goes' if here == 1 else 'go'} with its errors"
        return (
            said + f"parts most at {self.names[where.name]}: {len(there):,} of {counted(where.units, 'neuron')}, {go} "
            f"(in all {len(own.neurons):,} of {units:,}, and {len(linked):,} with errors)."
        )

    def write(self, folder: Path, title: str, config: str, provenance: Mapping[str, Any]) -> list[Path]:
        from adapt.report.bias import write_bias

        pages = [folder / name for name in ("bias.html", "bias.json")]
        files = []
        for own in self.ordered:
            name = re.sub(r"[^\w]+", "-", own.group).strip("-") or f"group{own.number}"
            kept: list[tuple[str, Scores | Neurons]] = [(f"scores/{name}", own.scores)] if own.partings else []
            kept += [(f"neurons/{name}", own.neurons)] if len(own.neurons) else []
            kept += [(f"neurons/{name}-errors", own.with_errors)] if len(own.with_errors) else []
            for stem, value in kept:
                path = folder / f"{stem}.safetensors"
                if path in files:  # names that differ in their marks alone
                    path = folder / f"{stem}-{own.number}.safetensors"
                value.save(path, group=own.group, against=own.against, by=self.by, **provenance)
                files.append(path)
        details = {
            own.group: [own.neuron(site, unit) for site, unit in own.ranked()] for own in self.ordered
        }  # fmt: skip
        write_json(pages[1], {**self.summary, "neurons": details})
        write_bias(pages[0], self, title, config)
        return [*pages, *files]
