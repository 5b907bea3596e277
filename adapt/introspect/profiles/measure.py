"""`measure=profiles`: the profiles of a corpus, the neurons that answer most to each group, and scores to choose by."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.checks import check_counts, check_number
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.files import write_json
from adapt.introspect.profiles.groups import fitting_keys, groupings
from adapt.introspect.profiles.jackknife import Estimate, jackknife
from adapt.introspect.profiles.profiles import ALL, FOLDS, Profiles
from adapt.introspect.profiles.read import read_profiles
from adapt.introspect.profiles.windows import read_windows
from adapt.introspect.reading import examples_of, sites_named
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from interventions.neurons import Scores
from interventions.sites import Site

_TOP = 5  # neurons of each group and site that are named


def profiles(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    groups: str | Sequence[str] | None = None,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: Sequence[str] = ("test", "source_test"),
    window: float | None = None,
    most: int = 60,
    least: int = 20,
    scores: Sequence[str | Sequence[str]] = (),
    folds: int = FOLDS,
) -> "MeasuredProfiles":
    """Profile the neurons at `sites` by `groups`, over the named parts of the splits.

    `window` (in seconds) takes whole windows around the groups of the first key, aligned in time. `scores` names
    groups, or pairs of them, whose contrast is written to a file; the gap of a key's only two groups is anyway. Each of
    the `folds`, which give the error bars (windows have one, and none), has sums of its own.

    Raises:
        InputError: there is no such site, part or group, there is nothing to read, or the model has no such windows.
    """
    model = loaded.model
    places = sites_named(model, sites, part)
    check_counts(1, most=most, least=least, folds=folds)
    if window is not None:
        check_number("window", window, above=0)
    for name, value in (("groups", groups), ("scores", scores)):
        if value is not None and not isinstance(value, (str, Sequence)):
            raise InputError(f"measure.{name} is a name or a list of them; got {value!r}.")
    if groups is not None and not len(groups):
        raise InputError("measure.groups names one key or more (phoneme, letter, accent, ...); null: those that fit.")
    chosen, sets = examples_of(model, splits, examples)
    keys = fitting_keys(model, chosen, sets) if groups is None else [groups] if isinstance(groups, str) else groups
    made = groupings(model, chosen, [str(key) for key in keys], sets, most)
    if window is None:
        found = read_profiles(model, chosen, loader, made, places, folds)
    else:
        found = read_windows(model, chosen, loader, made, window, places)
    measured = MeasuredProfiles(
        model, found, len(chosen), least, tuple(map(_pair, [scores] if isinstance(scores, str) else scores))
    )
    measured.named_scores()  # before anything is written
    return measured


@dataclass(frozen=True)
class MeasuredProfiles:
    """Profiles of `examples` examples; groups of fewer than `least` steps are not named."""

    model: Model
    profiles: Profiles
    examples: int
    least: int
    scores: tuple[tuple[str, str | None], ...] = ()

    def named_scores(self) -> dict[str, Scores]:
        """The scores that are written, by file name: the contrasts asked for, and the gaps of keys with two groups.

        Raises:
            InputError: a group that was asked for is not there.
        """
        profiles, named = self.profiles.pooled(), {}
        for key in profiles.keys:
            groups = [
                group for group in profiles.of(key) if any(profiles.steps(site, group) for site in profiles.sites)
            ]
            if len(groups) == 2 and any(len(profiles.seen(site, key)) == 2 for site in profiles.sites):
                named[f"gap-{key}"] = profiles.gap(*groups)
                named[f"gap-{key}-adjusted"] = profiles.gap(*groups, adjusted=True)
        try:
            for group, against in self.scores:
                name = re.sub(r"[^\w]+", "-", group if against is None else f"{group}-{against}")
                named[name] = profiles.contrast(group, against)
        except ValueError as error:
            raise InputError(f"measure.scores: {error}") from None
        return named

    @cached_property
    def selective(self) -> dict[str, Estimate | dict[Site, Tensor]]:
        """`Profiles.contrasts` of the groups of each key that have enough steps, with error bars where there are."""
        return {key: self._contrasts(key) for key in self.profiles.keys}

    @cached_property
    def names(self) -> dict[str, str]:
        """Short names of the sites, by name: without what all of them begin with."""
        names = [site.name.split(".") for site in self.profiles.sites]
        shared = 0
        while all(len(name) > shared + 1 for name in names) and len({name[shared] for name in names}) == 1:
            shared += 1
        return {".".join(name): ".".join(name[shared:]) for name in names}

    def named(self, site: Site, key: str) -> list[str]:
        """The groups of a key with enough steps at a site."""
        return [group for group in self._pooled.of(key) if self._pooled.steps(site, group) >= self.least]

    @cached_property
    def _pooled(self) -> Profiles:
        return self.profiles.pooled()

    def _contrasts(self, key: str) -> Estimate | dict[Site, Tensor]:
        used = {site: self.named(site, key) for site in self.profiles.sites}
        used = {site: groups for site, groups in used.items() if len(groups) > 1}

        def figure(own: Profiles) -> dict[Site, Tensor]:
            return {site: own.contrasts(site, key, groups) for site, groups in used.items()}

        try:
            return jackknife(figure, self.profiles)
        except ValueError:  # all in one fold
            return figure(self._pooled)

    @cached_property
    def tops(self) -> dict[str, dict[str, dict[str, list[dict[str, Any]]]]]:
        """By key, group and site the neurons that answer most to a group, the highest first.

        Each has its `unit`, its `contrast` with a 95 % interval (None where all examples are in one fold), and its
        `relevance` in the group, relative to the most relevant neuron of the layer.
        """
        found: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {}
        for key, contrasts in self.selective.items():
            values = contrasts.value if isinstance(contrasts, Estimate) else contrasts
            ends = contrasts.interval() if isinstance(contrasts, Estimate) else {}
            found[key] = {}
            for site, value in values.items():
                relevance = self._pooled.relevance(site, key)
                places = {group: place for place, group in enumerate(self._pooled.seen(site, key))}
                for row, group in enumerate(self.named(site, key)):
                    units = value[row].topk(min(_TOP, site.units)).indices.tolist()
                    found[key].setdefault(group, {})[site.name] = [
                        {
                            "unit": unit,
                            "contrast": float(value[row, unit]),
                            "interval": _interval(ends[site], row, unit) if site in ends else None,
                            "relevance": float(relevance[places[group], unit]),
                        }
                        for unit in units
                    ]
        return found

    @cached_property
    def explained(self) -> dict[str, dict[str, float]]:
        """By key and site, the share of a neuron's variance that lies between groups, mean over neurons."""
        found: dict[str, dict[str, float]] = {}
        for key in self.profiles.keys:
            try:
                scores = self._pooled.explained(key)
            except ValueError:
                found[key] = {}
                continue
            found[key] = {site.name: float(scores[site].mean()) for site in scores.sites}
        return found

    @property
    def summary(self) -> Mapping[str, Any]:
        profiles = self._pooled
        return {
            "examples": self.examples,
            "neurons": sum(site.units for site in profiles.sites),
            "steps": {site.name: profiles.steps(site, ALL) for site in profiles.sites},
            "groups": {key: len(profiles.of(key)) for key in profiles.keys},
            "explained": self.explained,
        }

    @property
    def told(self) -> str:
        sites, noun = self.profiles.sites, self.model.task.example_name
        said = f"{sum(site.units for site in sites):,} neurons at {len(sites)} sites, over {self.examples:,} {noun}s."
        best = {key: max(own, key=lambda name: own[name]) for key, own in self.explained.items() if own}
        parts = [
            f"{key.replace('_', ' ')}, {self.names[site]} ({100 * self.explained[key][site]:.0f} %)"
            for key, site in best.items()
        ]
        return said + (
            f" The layers that know most, in shares of a neuron's variance: {'; '.join(parts)}." if parts else ""
        )

    def write(self, folder: Path, title: str, config: str, provenance: Mapping[str, Any]) -> list[Path]:
        from adapt.report.profiles import write_profiles

        pages = [folder / name for name in ("profiles.html", "profiles.safetensors", "profiles.json")]
        self.profiles.save(pages[1], **provenance)
        files = [folder / "scores" / f"{name}.safetensors" for name in self.named_scores()]
        for path, (name, scores) in zip(files, self.named_scores().items(), strict=True):
            scores.save(path, scores=name, **provenance)
        write_json(pages[2], {**self.summary, "selective": self.tops, "order": self._orders()})
        write_profiles(pages[0], self, title, config)
        return [*pages, *files]

    def _orders(self) -> dict[str, dict[str, list[str]]]:
        orders: dict[str, dict[str, list[str]]] = {}
        for key in self.profiles.keys:
            seen = {site: self._pooled.seen(site, key) for site in self.profiles.sites}
            orders[key] = {
                site.name: [groups[leaf] for leaf in self._pooled.tree(site, key).order]
                for site, groups in seen.items() if groups
            }  # fmt: skip
        return orders


def _interval(ends: tuple[Tensor, Tensor], row: int, unit: int) -> list[float] | None:
    low, high = (float(end[row, unit]) for end in ends)
    return [low, high] if torch.isfinite(torch.tensor([low, high])).all() else None


def _pair(given: str | Sequence[str]) -> tuple[str, str | None]:
    if isinstance(given, str):
        return given, None
    if not isinstance(given, Sequence) or len(given) != 2:
        raise InputError(f"measure.scores: expected a group or two of them, such as [accent:a, accent:b]; got {given}.")
    return str(given[0]), str(given[1])
