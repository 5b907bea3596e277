"""Activation profiles: the mean activation and relevance of each neuron per group of steps (phoneme, accent, ...).

For a group g (Krug et al. 2018 and 2021, "neuron activation profiles" and their gradient-adjusted form):

    mean activation     A_g  over the steps in g
    NAP                 A_g minus the mean of A_h over all groups h of the same key
    relevance           R_g = mean |dy / da|, where y is the score of the model's output
    GradNAP             NAP_g * R_g / max R_g, the maximum over the neurons of the layer

Only sums are kept, so memory does not grow with the corpus, and the profiles of two halves add up to those of the
whole. The name and text of an example decide its fold, and each fold has its own sum of activations, which gives every
figure an error bar (`adapt.introspect.profiles.jackknife`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from adapt.introspect.profiles.sums import FORM, pack, pooled, read_site, without
from adapt.introspect.profiles.tree import Tree, average_linkage
from interventions.files import read_tensors, site_from_json, site_to_json, write_tensors
from interventions.neurons import Scores
from interventions.sites import Site

ALL = "all"
FOLDS = 16
Weights = Literal["even", "steps"]


@dataclass(frozen=True, eq=False)
class Profiles:
    """Activation profiles, as sums over the steps of each group and fold at each site. `ProfilesFitter` gathers them.

    A group is named `key:value` ("phoneme:a", "accent:en-us"); the group `all` has every step. A step is a frame of
    audio or a token, depending on the site.

    Profiles of aligned windows (`adapt.introspect.profiles.windows`) count windows instead of steps. `windows` then has
    the number of steps of a window at each site; it is empty for profiles of single steps.

    The sums at a site are
        steps            (folds, groups)                   the count
        activation       (1, groups, window, units)        of a, in 64 bits (for windows in 32, because they are long)
        gradient         (1, groups, window, units)        of |dy/da|, in 32 bits
        square           (1, groups, units)                of a * a, in 64 bits
        product          (1, groups, units)                of a * dy/da, gradient times activation, in 32 bits
        fold_activation  (folds, groups, window, units)    of a in each fold, in 32 bits; only if there are several
    with a window of 1 for single steps.
    """

    sites: tuple[Site, ...]
    groups: tuple[str, ...]
    folds: int
    windows: Mapping[str, int] = field(default_factory=dict)
    sums: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def __add__(self, other: "Profiles") -> "Profiles":
        """Add profiles of other examples. Raises ValueError if sites, folds or windows differ."""
        if not isinstance(other, Profiles):
            return NotImplemented
        _check_compatible(self, other)
        groups = tuple(dict.fromkeys((*self.groups, *other.groups)))
        sums: dict[str, dict[str, Tensor]] = {
            site: {
                name: values.new_zeros(values.shape[0], len(groups), *values.shape[2:]) for name, values in of.items()
            }
            for site, of in self.sums.items()
        }
        for profiles in (self, other):
            places = torch.tensor([groups.index(group) for group in profiles.groups])
            for site, of in profiles.sums.items():
                for name, values in of.items():
                    sums[site][name].index_add_(1, places, values)
        return replace(self, groups=groups, sums=sums)

    # Groups and means

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys by which steps are grouped: "phoneme", "accent", ..."""
        return tuple(dict.fromkeys(group.partition(":")[0] for group in self.groups if group != ALL))

    def groups_of(self, key: str) -> tuple[str, ...]:
        """Return the groups of a key. Raises ValueError if there are none."""
        groups = tuple(group for group in self.groups if group.partition(":")[0] == key and group != ALL)
        if not groups:
            raise ValueError(f"There are no profiles by {key!r}. Possible keys: {', '.join(self.keys) or 'none'}.")
        return groups

    def groups_at(self, site: Site | str, key: str) -> tuple[str, ...]:
        """Return the groups of a key that have steps at a site. Decoder layers, for example, have no phonemes."""
        return tuple(group for group in self.groups_of(key) if self.steps(site, group))

    def steps(self, site: Site | str, group: str = ALL) -> int:
        """Return the number of steps, or windows, of a group at a site. Raises ValueError or KeyError if unknown."""
        return int(self._sum(site, "steps")[self._place(group)])

    def folds_with(self, site: Site | str, group: str) -> int:
        """Return the number of folds in which a group has steps at a site."""
        return int((self.sums[_name(site)]["steps"][:, self._place(group)] > 0).sum())

    def mean(self, site: Site | str, groups: Sequence[str], what: str = "activation", time: bool = False) -> Tensor:
        """Return the mean activation of each group; NaN for a group without steps at the site.

        Args:
            site: The site or its name.
            groups: The names of the groups.
            what: "activation", "gradient" for the mean of its absolute value, "square", or "product" for gradient times
                activation.
            time: Keep the steps of aligned windows.

        Returns:
            `(groups, units)`, or `(groups, window, units)` with `time`.
        """
        window = self.windows.get(_name(site), 1)
        places = [self._place(group) for group in groups]
        total, steps = self._sum(site, what)[places].double(), self._sum(site, "steps")[places]
        if total.dim() == 2:
            return total / (steps * window).unsqueeze(1)
        mean = total / steps[:, None, None]
        return mean if time else mean.mean(1)

    # Profiles

    def nap(self, site: Site | str, key: str, weights: Weights = "even", time: bool = False) -> Tensor:
        """Return the activation profile of each group in `groups_at`: its mean minus the mean over all groups.

        Args:
            site: The site or its name.
            key: The key of the groups.
            weights: "even" gives every group the same weight in the mean over groups, "steps" weights by steps.
            time: Keep the steps of aligned windows.

        Returns:
            `(groups, units)`, or `(groups, window, units)` with `time`.
        """
        groups = self.groups_at(site, key)
        mean = self.mean(site, groups, time=time)
        share = torch.full((len(groups),), 1 / max(1, len(groups)), dtype=mean.dtype)
        if weights == "steps":
            steps = self._sum(site, "steps")[[self._place(group) for group in groups]]
            share = (steps / steps.sum()).to(mean)
        return mean - torch.tensordot(share.to(mean), mean, 1)

    def relevance(self, site: Site | str, key: str, time: bool = False) -> Tensor:
        """Return R_g / max R_g of each group in `groups_at`, 0 to 1, in the shape of `nap`; 0 without any gradient."""
        mean = self.mean(site, self.groups_at(site, key), "gradient", time)
        return mean / mean.flatten(1).amax(1).clamp_min(1e-300).view(-1, *[1] * (mean.dim() - 1))

    def gradnap(self, site: Site | str, key: str, weights: Weights = "even", time: bool = False) -> Tensor:
        """Return the gradient-adjusted profile of each group: `nap` times `relevance`.

        Args:
            site: The site or its name.
            key: The key of the groups.
            weights: As for `nap`.
            time: Keep the steps of aligned windows.

        Returns:
            `(groups, units)`, or `(groups, window, units)` with `time`.
        """
        return self.nap(site, key, weights, time) * self.relevance(site, key, time)

    def snap(
        self, site: Site | str, key: str, min_relevance: float = 0.1, weights: Weights = "even", time: bool = False
    ) -> Tensor:
        """Return the saliency-masked profile of each group: `nap`, set to 0 where `relevance` < `min_relevance`.

        Args:
            site: The site or its name.
            key: The key of the groups.
            min_relevance: The smallest relevance that is kept, from 0 to 1.
            weights: As for `nap`.
            time: Keep the steps of aligned windows.

        Returns:
            `(groups, units)`, or `(groups, window, units)` with `time`.
        """
        return self.nap(site, key, weights, time) * (self.relevance(site, key, time) >= min_relevance)

    # Figures of each neuron

    def contrasts(self, site: Site | str, key: str, groups: Sequence[str] | None = None) -> Tensor:
        """Return how much more active each neuron is in each group than in the others, `(groups, units)`.

        It is Cohen's d: the mean of the group minus the mean over the other groups (each with the same weight), divided
        by the standard deviation of steps within groups. `groups` are compared with one another (None: `groups_at`).
        Groups without steps have NaN, neurons that never vary 0.
        """
        groups = list(self.groups_at(site, key) if groups is None else groups)
        mean, spread = self.mean(site, groups), self._within(site, groups)
        known = ~mean.isnan().any(1)
        total, count = mean[known].sum(0), int(known.sum())
        difference = mean - (total - mean) / max(1, count - 1)
        return torch.where(spread > 0, difference / spread.where(spread > 0, 1), 0).where(known.unsqueeze(1), torch.nan)

    def contrast(self, group: str, reference: str | None = None) -> Scores:
        """Return the `contrasts` of a group with a reference group; None for all other groups of the same key.

        Sites at which either side has no steps are left out.

        Raises:
            ValueError: A group is unknown, or there is no site where both sides have steps.
        """
        self._place(group)
        key = group.partition(":")[0]
        scores = {}
        for site in self.sites:
            sides = list(self.groups_at(site, key)) if reference is None else [group, reference]
            if len(sides) > 1 and group in sides and all(self.steps(site, side) for side in sides):
                scores[site] = self.contrasts(site, key, sides)[sides.index(group)]
        if not scores:
            raise ValueError(f"There is no site where both '{group}' and {reference or 'another group'} have steps.")
        return Scores(scores)

    def gap(self, group: str, reference: str, adjusted: bool = False) -> Scores:
        """Return the absolute `contrast` of two groups, such as "set:target" and "set:source".

        `adjusted` multiplies it by the relevance of the neuron in the two groups, relative to the most relevant neuron
        of the layer. Raises ValueError as `contrast` does.
        """
        contrast = self.contrast(group, reference)
        scores = {site: contrast[site].abs() for site in contrast.sites}
        if adjusted:
            for site in scores:
                relevance = self.mean(site, [group, reference], "gradient").mean(0)
                scores[site] = scores[site] * relevance / relevance.max().clamp_min(1e-300)
        return Scores(scores)

    def explained_variance(self, key: str) -> Scores:
        """Return the share of each neuron's variance that the groups of a key explain, 0 to 1.

        It is corrected for chance (epsilon squared, Kelley 1935), and only steps in a group count. Sites with fewer
        than two groups are left out.

        Raises:
            ValueError: No site has two groups.
        """
        scores = {}
        for site in self.sites:
            groups = self.groups_at(site, key)
            places = [self._place(group) for group in groups]
            steps = self._sum(site, "steps")[places].unsqueeze(1) * self.windows.get(site.name, 1)
            count, freedom = float(steps.sum()), len(groups) - 1
            if freedom < 1 or count <= len(groups):
                continue
            mean = self.mean(site, groups)
            between = (steps * (mean - (steps * mean).sum(0) / count).square()).sum(0)
            within = self._within(site, groups).square() * count
            share = (between - freedom * within / (count - len(groups))) / (between + within).clamp_min(1e-300)
            scores[site] = share.clamp(0, 1).where(within > 0, 0)
        if not scores:
            raise ValueError(f"No site has steps of two groups of '{key}'.")
        return Scores(scores)

    # Similarity of groups

    def distances(self, site: Site | str, key: str, adjusted: bool = False, time: bool = False) -> Tensor:
        """Return the cosine distances between the profiles of all groups in `groups_at`, `(groups, groups)`, 0 to 2.

        An all-zero profile has distance 1 from every other.

        Args:
            site: The site or its name.
            key: The key of the groups.
            adjusted: Compare `gradnap` profiles instead of `nap`.
            time: Compare aligned windows step by step.
        """
        profile = (self.gradnap if adjusted else self.nap)(site, key, time=time).flatten(1)
        unit = profile / profile.norm(dim=1, keepdim=True).clamp_min(1e-300)
        return (1 - unit @ unit.T).clamp(0, 2).fill_diagonal_(0)

    def tree(self, site: Site | str, key: str, adjusted: bool = False) -> Tree:
        """Return the dendrogram of the groups in `groups_at`: average linkage of `distances`."""
        return average_linkage(self.distances(site, key, adjusted))

    def pooled(self) -> "Profiles":
        """Return the profiles with all folds added up into one: smaller, and without error bars."""
        sums = {site: pooled(of) for site, of in self.sums.items()}
        return replace(self, folds=1, sums=sums)

    def without(self, fold: int) -> "Profiles":
        """Return the profiles without one fold, the others added up into one.

        Only activations and steps are known by fold. The variance within each group, and the means of gradients and
        products, are those over all folds.
        """
        sums = {site: without(of, fold, self.windows.get(site, 1)) for site, of in self.sums.items()}
        return replace(self, folds=1, sums=sums)

    def save(self, path: Path | str, **provenance: Any) -> None:
        """Write one safetensors file; `provenance` is added to its header as JSON."""
        header = {
            "sites": [site_to_json(site) for site in self.sites],
            "groups": self.groups,
            "folds": self.folds,
            "windows": dict(self.windows),
            "form": FORM,
        }
        tensors = {
            f"{n}.{name}": values
            for n, site in enumerate(self.sites)
            for name, values in pack(self.sums[site.name]).items()
        }
        write_tensors(path, "profiles", {**header, **provenance}, tensors)

    @classmethod
    def load(cls, path: Path | str) -> "Profiles":
        """Read a file that `save` wrote. Raises FileError if the file is damaged or holds something else."""
        header, tensors = read_tensors(path, "profiles")
        sites = tuple(site_from_json(site) for site in header["sites"])
        sums = {site.name: read_site(tensors, n, header.get("form", 1)) for n, site in enumerate(sites)}
        return cls(sites, tuple(header["groups"]), header["folds"], header["windows"], sums)

    def _within(self, site: Site | str, groups: Sequence[str]) -> Tensor:
        # The standard deviation of steps from the mean of their group; 0 if it is only rounding.
        mean = self.mean(site, groups).nan_to_num()
        places = [self._place(group) for group in groups]
        steps = self._sum(site, "steps")[places].unsqueeze(1) * self.windows.get(_name(site), 1)
        variance = (self._sum(site, "square")[places] - steps * mean.square()).sum(0) / steps.sum()
        return variance.where(variance > 1e-9 * mean.square().amax(0), 0).sqrt()

    def _place(self, group: str) -> int:
        if group not in self.groups:
            key = group.partition(":")[0]
            names = self.groups_of(key) if key in self.keys else self.keys
            raise ValueError(f"There is no group '{group}'. There are, among others: {', '.join(names[:40])}.")
        return self.groups.index(group)

    def _sum(self, site: Site | str, name: str) -> Tensor:
        if _name(site) not in self.sums:
            raise KeyError(f"'{_name(site)}' is not among the sites: {', '.join(self.sums)}.")
        return self.sums[_name(site)][name].sum(0).cpu()


def _check_compatible(one: Profiles, other: Profiles) -> None:
    for name, values in (
        ("sites", (one.sites, other.sites)),
        ("folds", (one.folds, other.folds)),
        ("windows", (dict(one.windows), dict(other.windows))),
    ):
        if values[0] != values[1]:
            raise ValueError(f"Profiles of different {name} cannot be added: {values[0]}, {values[1]}.")


def _name(site: Site | str) -> str:
    return site if isinstance(site, str) else site.name
