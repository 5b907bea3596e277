"""The result of `measure=profiles`: profiles, the most selective neurons of each group, and scores to choose by."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.files import write_json
from adapt.formatting import short_names
from adapt.introspect.profiles.jackknife import Estimate, jackknife
from adapt.introspect.profiles.profiles import ALL, Profiles
from adapt.introspect.stored import read_result
from interventions.neurons import Scores
from interventions.sites import Site

FORMAT = 2
TOP = 5  # neurons that are listed for each group and site
TopNeurons = dict[str, dict[str, dict[str, list[dict[str, Any]]]]]


@dataclass(frozen=True)
class ProfilesResult:
    """Profiles of a corpus, and what follows from them.

    Args:
        profiles: The profiles.
        examples: The number of examples.
        example_name: What one example is called: "utterance" or "sentence".
        layers: The names of the sites that stand for the layers of the model, which a page draws; empty for all sites.
        min_steps: Groups with fewer steps at a site are left out of tables.
        scores: Groups, or pairs of a group and a reference group, whose contrast is saved as scores.
    """

    profiles: Profiles
    examples: int
    example_name: str
    layers: tuple[str, ...] = ()
    min_steps: int = 20
    scores: tuple[tuple[str, str | None], ...] = ()

    @cached_property
    def pooled(self) -> Profiles:
        """The profiles without folds."""
        return self.profiles.pooled()

    @cached_property
    def short_names(self) -> dict[str, str]:
        """The names of the sites without their common prefix, by name."""
        names = [site.name for site in self.profiles.sites]
        return dict(zip(names, short_names(names), strict=True))

    def frequent_groups(self, site: Site, key: str) -> list[str]:
        """Return the groups of a key with at least `min_steps` steps at a site."""
        return [group for group in self.pooled.groups_of(key) if self.pooled.steps(site, group) >= self.min_steps]

    def contrast_scores(self) -> dict[str, Scores]:
        """Return the scores that are saved, by file name: the contrasts of `scores`, and gaps.

        There is a gap for each key that has exactly two groups: the one between them.

        Raises:
            ValueError: A group of `scores` is unknown.
        """
        profiles, named = self.pooled, {}
        for key in profiles.keys:
            groups = [g for g in profiles.groups_of(key) if any(profiles.steps(site, g) for site in profiles.sites)]
            if len(groups) == 2 and any(len(profiles.groups_at(site, key)) == 2 for site in profiles.sites):
                one, other = groups
                named[f"gap-{key}"] = profiles.gap(one, other)
                named[f"gap-{key}-adjusted"] = profiles.gap(one, other, adjusted=True)
        for group, reference in self.scores:
            name = re.sub(r"[^\w]+", "-", group if reference is None else f"{group}-{reference}")
            named[name] = profiles.contrast(group, reference)
        return named

    @cached_property
    def contrasts(self) -> dict[str, Estimate | dict[Site, Tensor]]:
        """`Profiles.contrasts` of the frequent groups by key; with error bars if examples are in several folds."""
        return {key: self._contrasts(key) for key in self.profiles.keys}

    def _contrasts(self, key: str) -> Estimate | dict[Site, Tensor]:
        groups_of = {site: self.frequent_groups(site, key) for site in self.profiles.sites}
        groups_of = {site: groups for site, groups in groups_of.items() if len(groups) > 1}

        def contrasts(profiles: Profiles) -> dict[Site, Tensor]:
            return {site: profiles.contrasts(site, key, groups) for site, groups in groups_of.items()}

        try:
            return jackknife(contrasts, self.profiles)
        except ValueError:  # all examples are in one fold
            return contrasts(self.pooled)

    @cached_property
    def top_neurons(self) -> TopNeurons:
        """The neurons with the highest contrast, by key, group and site.

        Each has its `unit`, its `contrast` with a 95 % `interval` (None if all examples are in one fold), and its
        `relevance` in the group, relative to the most relevant neuron of the layer.
        """
        return {key: self._top_neurons(key) for key in self.contrasts}

    def _top_neurons(self, key: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
        contrasts = self.contrasts[key]
        values = contrasts.value if isinstance(contrasts, Estimate) else contrasts
        intervals = contrasts.interval() if isinstance(contrasts, Estimate) else {}
        top: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for site, value in values.items():
            relevance = self.pooled.relevance(site, key)
            places = {group: place for place, group in enumerate(self.pooled.groups_at(site, key))}
            for row, group in enumerate(self.frequent_groups(site, key)):
                units = value[row].topk(min(TOP, site.units)).indices.tolist()
                top.setdefault(group, {})[site.name] = [
                    {
                        "unit": unit,
                        "contrast": float(value[row, unit]),
                        "interval": _interval(intervals[site], row, unit) if site in intervals else None,
                        "relevance": float(relevance[places[group], unit]),
                    }
                    for unit in units
                ]
        return top

    @cached_property
    def explained_variance(self) -> dict[str, dict[str, float]]:
        """The share of a neuron's variance that the groups explain, averaged over neurons, by key and site."""
        explained: dict[str, dict[str, float]] = {}
        for key in self.profiles.keys:
            try:
                scores = self.pooled.explained_variance(key)
            except ValueError:  # no site has two groups
                explained[key] = {}
                continue
            explained[key] = {site.name: float(scores[site].mean()) for site in scores.sites}
        return explained

    @property
    def figures(self) -> Mapping[str, Any]:
        """The numbers for `metrics.json`."""
        profiles = self.pooled
        return {
            "examples": self.examples,
            "neurons": sum(site.units for site in profiles.sites),
            "steps": {site.name: profiles.steps(site, ALL) for site in profiles.sites},
            "groups": {key: len(profiles.groups_of(key)) for key in profiles.keys},
            "explained_variance": self.explained_variance,
        }

    @property
    def summary(self) -> str:
        """The result in two sentences."""
        sites = self.profiles.sites
        neurons = sum(site.units for site in sites)
        text = f"{neurons:,} neurons at {len(sites)} sites, over {self.examples:,} {self.example_name}s."
        best = {
            key: max(shares, key=lambda name: shares[name]) for key, shares in self.explained_variance.items() if shares
        }
        layers = [
            f"{key.replace('_', ' ')}: {self.short_names[site]} ({100 * self.explained_variance[key][site]:.0f} %)"
            for key, site in best.items()
        ]
        if layers:
            text += f" Layers with the highest share of variance explained by {'; '.join(layers)}."
        return text

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> list[Path]:
        """Write `profiles.safetensors`, `profiles.json` and the scores, and return the paths of the files."""
        tensors, table = folder / "profiles.safetensors", folder / "profiles.json"
        self.profiles.save(tensors, **provenance)
        files = []
        for name, scores in self.contrast_scores().items():
            files.append(folder / "scores" / f"{name}.safetensors")
            scores.save(files[-1], scores=name, **provenance)
        write_json(
            table,
            {
                "format": FORMAT,
                **self.figures,
                "example_name": self.example_name,
                "layers": self.layers,
                "min_steps": self.min_steps,
                "scores": self.scores,
                "top_neurons": self.top_neurons,
                "dendrogram_order": self._dendrogram_orders(),
            },
        )
        return [tensors, table, *files]

    @classmethod
    def load(cls, folder: Path | str) -> "ProfilesResult":
        """Read what `save` wrote, also in version 1 of the format. Raises FileError if a file is damaged."""
        folder = Path(folder)
        profiles = Profiles.load(folder / "profiles.safetensors")
        stored = read_result(folder / "profiles.json", FORMAT)
        if stored["format"] == 1:  # this version stored neither the options nor the layers
            return cls(profiles, stored["examples"], "example")
        scores = tuple((group, reference) for group, reference in stored["scores"])
        return cls(
            profiles, stored["examples"], stored["example_name"], tuple(stored["layers"]), stored["min_steps"], scores
        )

    def _dendrogram_orders(self) -> dict[str, dict[str, list[str]]]:
        orders: dict[str, dict[str, list[str]]] = {}
        for key in self.profiles.keys:
            groups_at = {site: self.pooled.groups_at(site, key) for site in self.profiles.sites}
            orders[key] = {
                site.name: [groups[leaf] for leaf in self.pooled.tree(site, key).order]
                for site, groups in groups_at.items()
                if groups
            }
        return orders


def _interval(ends: tuple[Tensor, Tensor], row: int, unit: int) -> list[float] | None:
    low, high = (float(end[row, unit]) for end in ends)
    return [low, high] if torch.isfinite(torch.tensor([low, high])).all() else None
