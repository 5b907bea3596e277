"""`measure=weights`: how a run moved the weights of its base, by parameter and by neuron, and how far beyond chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.errors import InputError
from adapt.introspect.weights.measures import WeightMeasures, weight_measures
from adapt.models.adaptation_files import read_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded


def weights(
    loaded: Loaded, before: str | None = None, floor: str | None = None, level: float = 0.01
) -> "MeasuredWeights":
    """Compare the weights of the model `before` (None: the base that the run was made from) with those of `loaded`.

    `floor` is a second run like the one that is measured, with another seed: what both moved alike is flagged, with at
    most `level` as the chance of any false one (`adapt.introspect.weights.measures`).

    Raises:
        InputError: there is no such model, they are not of one architecture, or the second run was made from another
            base, or could train other weights.
    """
    if not isinstance(level, float) or not 0 < level < 1:
        raise InputError(f"measure.level is a share above 0 and below 1, got {level!r}.")
    base = load_model(str(_base(loaded) if before is None else before))
    second = None if floor is None else load_model(str(floor))
    if second is not None and second.fingerprint == loaded.fingerprint:
        raise InputError(f"measure.floor: '{floor}' is the very model that is measured. Give a run with another seed.")
    if second is not None and second.fingerprint == base.fingerprint:
        raise InputError(
            f"measure.floor: '{floor}' is the model before, which says nothing of chance. Give a second run from it, "
            "with another seed."
        )
    if second is not None:
        _check_alike(loaded, second)
    try:
        found = weight_measures(base.model, loaded.model, None if second is None else second.model)
    except ValueError as error:
        raise InputError(f"'{base.reference}' and '{loaded.reference}': {error}") from None
    return MeasuredWeights(found, base.reference, level)


def _base(loaded: Loaded) -> str:
    try:
        _, facts = read_adaptation(loaded.reference)
    except InputError:
        raise InputError(
            f"measure=weights compares two models, and '{loaded.reference}' is no adaptation that names its base. Give "
            "the run as model.pretrained=..., or the other model as measure.before=..."
        ) from None
    return str(facts["base"]["reference"])


def _check_alike(one: Loaded, other: Loaded) -> None:
    """Raise InputError where two runs have another architecture, or had another base or tuning, so far as they say;
    how far chance moves a weight is told by a run that might have done the same.
    """
    shapes = [{name: own.shape for name, own in loaded.model.named_parameters()} for loaded in (one, other)]
    if one.model.vocabulary != other.model.vocabulary or shapes[0] != shapes[1]:
        what = "alphabet" if one.model.vocabulary != other.model.vocabulary else "architecture"
        raise InputError(
            f"measure.floor: '{other.reference}' has another {what} than '{one.reference}'. Give a run from the same "
            "base with the same data and options, and another seed."
        )
    bases = [own.header.get("base") for own in (one, other)]
    if all(bases) and bases[0]["fingerprint"] != bases[1]["fingerprint"]:
        here, there = (f"{base['reference']} ({base['fingerprint'][:12]})" for base in bases)
        raise InputError(
            f"measure.floor: '{other.reference}' was made from {there}, and '{one.reference}' from {here}. Give a run "
            "from the same base, with another seed."
        )
    if "trained" not in one.header or "trained" not in other.header:
        return
    here, there = (_could_train(own.header) for own in (one, other))
    differ = sorted(name for name in here | there if here.get(name) != there.get(name))
    if differ:
        name, more = differ[0], f" (and so of {len(differ) - 1} more)" if len(differ) > 1 else ""
        raise InputError(
            f"measure.floor: '{other.reference}' could train {there.get(name, 'nothing')} of '{name}', and "
            f"'{one.reference}' {here.get(name, 'nothing')}{more}. Give a run with the same tuning, and another seed."
        )


def _could_train(header: Mapping[str, Any]) -> dict[str, str]:
    """How much of each parameter an adaptation could train, in words."""
    rows, factors = header.get("trained_rows") or {}, header.get("trained_factors") or {}
    said = {}
    for name in header["trained"]:
        said[name] = f"{rows[name]:,} rows" if name in rows else "all"
        if name in factors:
            said[name] = f"{factors[name]:,} numbers in factors"
    return said


@dataclass(frozen=True)
class MeasuredWeights:
    """How weights differ from those of the model `before`; units are flagged at `level`, where there is a floor."""

    measures: WeightMeasures
    before: str
    level: float

    @property
    def summary(self) -> Mapping[str, Any]:
        own = self.measures
        said: dict[str, Any] = {
            "before": self.before,
            "parameters": len(own.parameters),
            "parameters_changed": sum(one.changed > 0 for one in own.parameters),
            "neurons": len(own.incoming),
            "neurons_changed": sum(int((own.incoming[site] > 0).sum()) for site in own.incoming.sites),
            "sites": {site.name: {"median": float(own.incoming[site].median())} for site in own.incoming.sites},
        }
        if own.floor is not None:
            flagged = own.flagged(self.level)
            said["flagged"] = len(flagged)
            for site in own.incoming.sites:
                more = {"floor": float(own.floor[site].median()), "flagged": list(flagged[site])}
                said["sites"][site.name] |= more
        return said

    @property
    def told(self) -> str:
        own = self.summary
        moved = [one for one in self.measures.parameters if one.relative]
        said = f"{own['parameters_changed']} of {own['parameters']} parameters differ from those of {self.before}"
        said += f", and the weights of {own['neurons_changed']:,} of {own['neurons']:,} neurons."
        if moved:
            most = max(moved, key=lambda one: one.relative)
            said += f" '{most.name}' moved most, by {100 * most.relative:.2g} % of its size"
            said += f" ({100 * most.floor:.2g} % by chance)." if most.floor is not None else "."
        if "flagged" in own:
            said += f" Both runs moved {own['flagged']:,} neurons alike, beyond chance at {100 * self.level:g} %."
        return said

    def write(self, folder: Path, title: str, config: str, provenance: Mapping[str, Any]) -> list[Path]:
        from adapt.report.introspection import chance_table, neuron_strips, weight_table
        from adapt.report.sections import Section, write_sections

        own, page = self.measures, folder / "weights.html"
        own.save(folder, **provenance)
        columns = (
            "Relative change is the size of the difference beside that of the weights before. Of a matrix: the largest "
            "singular value of the change beside the largest before (spectral), in how many directions it goes (stable "
            "and effective rank), how far the leading directions are the same (overlap), and how many of its numbers "
            "differ in any bit."
        )
        cells = "One cell a neuron, in the layer's order; the darker, the more {} changed, relative to what they were."
        sections = [
            Section("Parameter by parameter", columns, weight_table(own)),
            Section(
                "What makes each neuron", cells.format("its incoming weights and bias"), neuron_strips(own.incoming)
            ),
        ]
        if own.outgoing.sites:
            how = cells.format("the weights that read it") + " Layers that nothing reads unit by unit are left out."
            sections.append(Section("What reads each neuron", how, neuron_strips(own.outgoing)))
        if own.floor is not None:
            how = (
                "A second run from the same base with another seed says how far chance alone moves a neuron's weights. "
                f"Flagged are neurons that both runs moved alike, beyond it ({100 * self.level:g} % for any false one)."
            )
            sections.append(Section("Beyond chance", how, chance_table(own, own.flagged(self.level))))
        write_sections(page, title, self.told, sections, config)
        return [page, *own.files(folder)]
