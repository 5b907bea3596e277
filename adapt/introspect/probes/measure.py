"""`measure=probes`: what can be read off each layer (accent, phoneme, speaker, ...), and which neurons know it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.checks import check_counts, check_share
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.probes.probe import Probe, probe
from adapt.introspect.reading import examples_of, sites_named, sites_of_both
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded


def probes(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    targets: str | Sequence[str] = ("accent",),
    against: str | None = None,
    method: str = "linear",
    split_by: str = "example",
    held_out: float = 0.25,
    most: int = 200,
    controls: int = 3,
    seed: int = 0,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
    **options: Any,
) -> "MeasuredProbes":
    """Probe the layers at `sites` for each of `targets`, in this model and in the one `against`; the rest as in
    `adapt.introspect.probes.probe.probe`.

    Raises:
        InputError: there is no such site, part, model or target, or there is nothing to read.
    """
    check_counts(1, controls=controls)
    check_counts(2, most=most)
    check_counts(0, seed=seed)
    check_share("held_out", held_out)
    model = loaded.model
    places = sites_named(model, sites, part)
    chosen, _ = examples_of(model, splits, examples)
    models = [model]
    if against is not None:
        models.append(load_model(against).model)
        places = sites_of_both(places, models[1], against)
    named = [targets] if isinstance(targets, str) else list(targets) if isinstance(targets, Sequence) else []
    if not named:
        raise InputError(f"measure.targets names one or more (accent, phoneme, speaker, ...); got {targets!r}.")
    found = {
        name: [
            probe(one, chosen, loader, name, method, places, split_by, held_out, most, controls, seed, **options)
            for one in models
        ]
        for name in map(str, named)
    }
    return MeasuredProbes(found, against)


@dataclass(frozen=True)
class MeasuredProbes:
    """By target the probes of a model, and of another one where there is one."""

    found: dict[str, list[Probe]]
    against: str | None

    @property
    def summary(self) -> Mapping[str, Any]:
        return {
            name: {
                when: {
                    row.site: {
                        "accuracy": row.accuracy, "interval": list(row.interval), "control": row.control,
                        "selectivity": row.selectivity,
                    }
                    for row in own.rows
                }
                for when, own in zip(("model", "against"), probes, strict=False)
            } | {"chance": probes[0].chance, "classes": list(probes[0].classes)}
            for name, probes in self.found.items()
        }  # fmt: skip

    @property
    def told(self) -> str:
        parts = []
        for name, (own, *_) in self.found.items():
            best = max(own.rows, key=lambda row: row.accuracy)
            parts.append(
                f"{name} is read best off '{best.site}' ({100 * best.accuracy:.0f} % right, chance "
                f"{100 * own.chance:.0f} %, selectivity {100 * best.selectivity:.0f})"
            )
        said = "; ".join(parts)
        return said[:1].upper() + said[1:] + "."

    def write(self, folder: Path, title: str, config: str, provenance: Mapping[str, Any]) -> list[Path]:
        from adapt.report.introspection import knowing_table, probe_table
        from adapt.report.sections import Section, write_sections

        page, files, sections = folder / "probes.html", [], []
        for name, own in self.found.items():
            for when, one in zip(("", "-against"), own, strict=False):
                one.save(folder / "probes" / f"{name}{when}")
                files.append(folder / "probes" / f"{name}{when}" / "scores.safetensors")
            how = (
                f"How often a {own[0].method} probe is right about {name} on examples that it was not trained on, "
                f"{own[0].tested:,} of them, all of the {len(own[0].classes)} classes counting the same. The control "
                "task has labels drawn at random, one for each speaker (of phonemes: for each between the same "
                "neighbours; of tokens: for each token before): what a probe gets right there it has learned by heart, "
                f"and selectivity is the accuracy less that. {_drawn(len(own) > 1)} a cross is the control task, the "
                "dashed line guessing."
            )
            heading = f"{name[0].upper()}{name[1:]}" + (f", and in {self.against} (after)" if len(own) > 1 else "")
            sections.append(Section(heading, how, probe_table(*own)))
            who = (
                f"By their part in the probe, the greatest first; scores of all are in probes/{name}. Scores compare "
                "neurons of one layer, and not layers."
            )
            sections.append(Section(f"Neurons that know the {name}", who, knowing_table(own[0])))
        write_sections(page, title, self.told, sections, config)
        return [page, *files]


def _drawn(two: bool) -> str:
    if two:
        return "An open circle is the model, a full one the other (as are control and selectivity),"
    return "The circle is the accuracy with its 95 % interval,"
