"""Profiles: what each neuron does per group of steps (phoneme, letter, accent, ...): its activation and its relevance.

For a group g (Krug et al. 2018 and 2021, "neuron activation profiles" and their gradient-adjusted form):

    mean activation     A_g  of the steps in g
    NAP                 A_g less the mean of A_h over all groups h of the same kind
    relevance           R_g = mean |dy / da|, y being the score of what the model writes
    GradNAP             NAP_g * R_g / max R_g, the maximum over the layer's neurons

Nothing but sums is kept, whatever the size of the corpus, so that profiles of two halves add up to those of the whole.
Examples fall into folds by their name, each fold has sums of its own, and so any figure has an error bar
(`adapt.introspect.profiles.jackknife`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.distributed import rank_and_size
from adapt.introspect.profiles.tree import Tree, average_linkage
from interventions.files import read_tensors, site_from_json, site_to_json, write_tensors
from interventions.neurons import Scores
from interventions.sites import Site

ALL = "all"
FOLDS = 16
Weights = Literal["even", "steps"]


@dataclass(frozen=True, eq=False)
class Membership:
    """Which steps of a batch go into which sums: `steps` are numbers among all of the batch, padding counted, those of
    one sum after those of another; `rows` says which sum, and `counts` how many steps it gets, both `(sums,)`.
    """

    steps: Tensor
    rows: Tensor
    counts: Tensor

    def sums(self, values: Tensor) -> Tensor:
        """Of values `(steps of the batch, units)`, `(sums, units)`."""
        # Only members are read: a matrix product would multiply all steps by all groups, mostly by 0.
        return torch.nn.functional.embedding_bag(self.steps, values, self._first, mode="sum")

    @cached_property
    def _first(self) -> Tensor:
        return self.counts.cumsum(0) - self.counts


class Profiles:
    """Sums over the steps of each group at each site, by fold.

    A group is named `key:value` ("phoneme:a", "accent:en-us"); `all` has every step. What counts as a step is the
    site's: a frame of audio, or a token.

    `windows` is empty for profiles of single steps. Where whole windows were aligned and averaged
    (`adapt.introspect.profiles.windows`), it says how many steps a window has at each site, and a group's count is of windows.

    The sums at a site, in 64 bits (of windows in 32, for they are long), are
        steps       (folds, groups)                     how many
        activation  (folds, groups, window, units)      of a
        gradient    (folds, groups, window, units)      of |dy/da|
        square      (folds, groups, units)              of a * a
        product     (folds, groups, units)              of a * dy/da, gradient times activation
    with a window of 1 for single steps.
    """

    def __init__(
        self, sites: Sequence[Site], groups: Sequence[str], folds: int = FOLDS, windows: Mapping[str, int] | None = None
    ) -> None:
        self.sites, self.groups, self.folds = tuple(sites), tuple(groups), folds
        self.windows = dict(windows or {})
        self.sums: dict[str, dict[str, Tensor]] = {}
        long = torch.float32 if self.windows else torch.float64
        for site in self.sites:
            each, window = (folds, len(self.groups)), self.windows.get(site.name, 1)
            self.sums[site.name] = {
                "steps": torch.zeros(each, dtype=torch.float64),
                "activation": torch.zeros(*each, window, site.units, dtype=long),
                "gradient": torch.zeros(*each, window, site.units, dtype=long),
                "square": torch.zeros(*each, site.units, dtype=torch.float64),
                "product": torch.zeros(*each, site.units, dtype=torch.float64),
            }

    # Gathering

    def to(self, device: torch.device | str) -> "Profiles":
        """Move the sums, and return itself."""
        for own in self.sums.values():
            own.update({name: total.to(device) for name, total in own.items()})
        return self

    def membership(self, members: Tensor, folds: Tensor) -> "Membership":
        """What sums the steps of a batch are in, for `update`: `members` `(batch, groups, time)` is true where a step
        belongs to a group, and nowhere in padding; `folds` `(batch,)` says which fold each example falls into.
        """
        batch, group, time = members.nonzero(as_tuple=True)
        rows, order = (folds[batch] * len(self.groups) + group).sort(stable=True)
        rows, counts = rows.unique_consecutive(return_counts=True)
        return Membership((batch * members.shape[2] + time)[order], rows, counts)

    @torch.no_grad()
    def update(self, site: Site, members: "Membership", x: Tensor, gradient: Tensor) -> None:
        """Take in a batch at a site: activations and gradients `(batch, time, units)`."""
        own = self.sums[site.name]
        own["steps"].view(-1).index_add_(0, members.rows, members.counts.double())
        x, gradient = x.reshape(-1, site.units), gradient.reshape(-1, site.units)

        def add(name: str, values: Tensor) -> None:
            total = own[name].view(-1, site.units)
            total.index_add_(0, members.rows, members.sums(values).to(total.dtype))

        # In one piece of memory, one after another: where the network is small, what this costs is memory's time.
        values = x * gradient
        add("product", values)
        add("square", torch.mul(x, x, out=values))
        add("gradient", torch.abs(gradient, out=values))
        add("activation", x)

    @torch.no_grad()
    def update_windows(self, site: Site, members: Tensor, folds: Tensor, x: Tensor, gradient: Tensor) -> None:
        """Take in aligned windows: `members` `(windows, groups)`, all else as `update` has it."""
        own = self.sums[site.name]
        which, group = members.nonzero(as_tuple=True)
        rows = folds[which] * len(self.groups) + group
        own["steps"].view(-1).index_add_(0, rows, torch.ones_like(rows, dtype=torch.float64))
        for name, values in (("activation", x), ("gradient", gradient.abs())):
            own[name].flatten(0, 1).index_add_(0, rows, values[which].to(own[name].dtype))
        for name, values in (("square", x.square().sum(1)), ("product", (x * gradient).sum(1))):
            own[name].flatten(0, 1).index_add_(0, rows, values[which].double())

    def __add__(self, other: "Profiles") -> "Profiles":
        """What both have seen. Raises ValueError where they are of other sites, folds or windows."""
        if not isinstance(other, Profiles):
            return NotImplemented
        _check_alike(self, other)
        groups = tuple(dict.fromkeys((*self.groups, *other.groups)))
        total = Profiles(self.sites, groups, self.folds, self.windows)
        for own in (self, other):
            places = torch.tensor([groups.index(group) for group in own.groups])
            for site, sums in own.sums.items():
                for name, values in sums.items():
                    total.sums[site][name].index_add_(1, places, values.cpu())
        return total

    def all_reduce(self) -> "Profiles":
        """What all processes of `torch.distributed` have seen, in each of them; itself where there is one.

        Raises:
            ValueError: they have profiles of different groups.
        """
        _, ranks = rank_and_size()
        if ranks == 1:
            return self
        groups: list[Any] = [None] * ranks
        torch.distributed.all_gather_object(groups, self.groups)
        if any(theirs != self.groups for theirs in groups):
            raise ValueError("The processes have profiles of different groups. Name the same groups in all of them.")
        for own in self.sums.values():
            for total in own.values():
                torch.distributed.all_reduce(total)
        return self

    # Reading

    @property
    def keys(self) -> tuple[str, ...]:
        """What steps are grouped by: "phoneme", "accent", ..."""
        return tuple(dict.fromkeys(group.partition(":")[0] for group in self.groups if group != ALL))

    def of(self, key: str) -> tuple[str, ...]:
        """The groups of a key. Raises ValueError where it has none."""
        groups = tuple(group for group in self.groups if group.partition(":")[0] == key and group != ALL)
        if not groups:
            raise ValueError(f"Nothing is grouped by {key!r}; there are profiles by {', '.join(self.keys) or 'none'}.")
        return groups

    def steps(self, site: Site | str, group: str = ALL) -> int:
        """How many steps, or windows, of a group there are at a site. Raises ValueError, KeyError."""
        return int(self._sum(site, "steps")[self._place(group)])

    def spread_over(self, site: Site | str, group: str) -> int:
        """In how many folds a group has steps at a site."""
        return int((self.sums[_name(site)]["steps"][:, self._place(group)] > 0).sum())

    def seen(self, site: Site | str, key: str) -> tuple[str, ...]:
        """The groups of a key that have steps at a site: a decoder's layers hear no phonemes, for one."""
        return tuple(group for group in self.of(key) if self.steps(site, group))

    def mean(self, site: Site | str, groups: Sequence[str], what: str = "activation", time: bool = False) -> Tensor:
        """The mean activation of each group, `(groups, units)`; NaN where a group has no step there.

        `what` may be "gradient", for the mean of its size, or "product", of gradient times activation. `time=True`
        gives `(groups, window, units)`.
        """
        window = self.windows.get(_name(site), 1)
        places = [self._place(group) for group in groups]
        total, steps = self._sum(site, what)[places].double(), self._sum(site, "steps")[places]
        if total.dim() == 2:
            return total / (steps * window).unsqueeze(1)
        mean = total / steps[:, None, None]
        return mean if time else mean.mean(1)

    def nap(self, site: Site | str, key: str, weights: Weights = "even", time: bool = False) -> Tensor:
        """The profile of each group that is `seen`, `(groups, units)`, or with `time` `(groups, window, units)`.

        From each group's mean that of all of them is taken off, each counting the same, or by its `steps`.
        """
        groups = self.seen(site, key)
        mean = self.mean(site, groups, time=time)
        share = torch.full((len(groups),), 1 / max(1, len(groups)), dtype=mean.dtype)
        if weights == "steps":
            steps = self._sum(site, "steps")[[self._place(group) for group in groups]]
            share = (steps / steps.sum()).to(mean)
        return mean - torch.tensordot(share.to(mean), mean, 1)

    def relevance(self, site: Site | str, key: str, time: bool = False) -> Tensor:
        """R_g / max R_g of each group that is `seen`, 0 to 1: as `nap` in shape. 0 where no gradient came at all."""
        mean = self.mean(site, self.seen(site, key), "gradient", time)
        return mean / mean.flatten(1).amax(1).clamp_min(1e-300).view(-1, *[1] * (mean.dim() - 1))

    def gradnap(self, site: Site | str, key: str, weights: Weights = "even", time: bool = False) -> Tensor:
        """The gradient-adjusted profile of each group: `nap` times `relevance`."""
        return self.nap(site, key, weights, time) * self.relevance(site, key, time)

    def snap(
        self, site: Site | str, key: str, least: float = 0.1, weights: Weights = "even", time: bool = False
    ) -> Tensor:
        """The saliency-masked profile of each group: `nap`, and 0 where `relevance` is under `least`."""
        return self.nap(site, key, weights, time) * (self.relevance(site, key, time) >= least)

    def contrasts(self, site: Site | str, key: str, groups: Sequence[str] | None = None) -> Tensor:
        """How much more each neuron answers to each group than to the others, `(groups, units)`.

        It is a group's mean less the mean of the others, each counting the same, over the standard deviation of a step
        within the groups (Cohen's d). `groups` (None: those that are `seen`) are compared with one another; one that
        has no step has NaN. A neuron that never varies has 0.
        """
        groups = list(self.seen(site, key) if groups is None else groups)
        mean, spread = self.mean(site, groups), self._within(site, groups)
        there = ~mean.isnan().any(1)
        total, count = mean[there].sum(0), int(there.sum())
        difference = mean - (total - mean) / max(1, count - 1)
        return torch.where(spread > 0, difference / spread.where(spread > 0, 1), 0).where(there.unsqueeze(1), torch.nan)

    def contrast(self, group: str, against: str | None = None) -> Scores:
        """`contrasts` of a group with another one, or (None) with all others of the same key.

        Sites at which either side has no step are left out.

        Raises:
            ValueError: there is no such group, or no site at which both sides have steps.
        """
        scores = {}
        for site in self.sites:
            self._place(group)
            key = group.partition(":")[0]
            sides = [group, against] if against is not None else list(self.seen(site, key))
            if len(sides) > 1 and group in sides and all(self.steps(site, side) for side in sides):
                scores[site] = self.contrasts(site, key, sides)[sides.index(group)]
        if not scores:
            raise ValueError(f"There is no site at which both '{group}' and {against or 'another group'} have steps.")
        return Scores(scores)

    def explained(self, key: str) -> Scores:
        """The share of each neuron's variance that lies between the groups of a key, 0 to 1: how much it knows of it.

        It is that of the steps which are in a group, freed of what as many random groups would explain (epsilon
        squared, Kelley 1935). Sites that see fewer than two groups are left out. Raises ValueError where none is left.
        """
        scores = {}
        for site in self.sites:
            groups = self.seen(site, key)
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
            raise ValueError(f"There is no site that sees two groups of '{key}'.")
        return Scores(scores)

    def gap(self, group: str, against: str, adjusted: bool = False) -> Scores:
        """How far apart two groups are at each neuron, such as "set:target" and "set:source": the size of `contrast`.

        `adjusted=True` multiplies it by how much the neuron matters to what is written in the two groups, relative to
        the one that matters most in its layer: the gradient-adjusted gap. Raises ValueError as `contrast` does.
        """
        contrast = self.contrast(group, against)
        scores = {site: contrast[site].abs() for site in contrast.sites}
        if adjusted:
            for site in scores:
                relevance = self.mean(site, [group, against], "gradient").mean(0)
                scores[site] = scores[site] * relevance / relevance.max().clamp_min(1e-300)
        return Scores(scores)

    def distances(self, site: Site | str, key: str, adjusted: bool = False, time: bool = False) -> Tensor:
        """The cosine distance of the profiles of every two groups that are `seen`, `(groups, groups)`, 0 to 2.

        A profile of nothing but zeros is at distance 1 from every other.
        """
        profile = (self.gradnap if adjusted else self.nap)(site, key, time=time).flatten(1)
        unit = profile / profile.norm(dim=1, keepdim=True).clamp_min(1e-300)
        return (1 - unit @ unit.T).clamp(0, 2).fill_diagonal_(0)

    def tree(self, site: Site | str, key: str, adjusted: bool = False) -> Tree:
        """Which groups are alike at a site: average linkage of `distances`, over `seen` groups in their order."""
        return average_linkage(self.distances(site, key, adjusted))

    def _within(self, site: Site | str, groups: Sequence[str]) -> Tensor:
        # The standard deviation of a step from its group's mean; 0 where there is nothing but rounding.
        mean = self.mean(site, groups).nan_to_num()
        places = [self._place(group) for group in groups]
        steps = self._sum(site, "steps")[places].unsqueeze(1) * self.windows.get(_name(site), 1)
        variance = (self._sum(site, "square")[places] - steps * mean.square()).sum(0) / steps.sum()
        return variance.where(variance > 1e-9 * mean.square().amax(0), 0).sqrt()

    def _place(self, group: str) -> int:
        if group not in self.groups:
            key = group.partition(":")[0]
            near = self.of(key) if key in self.keys else self.keys
            raise ValueError(f"There is no group '{group}'. There are, among others: {', '.join(near[:40])}.")
        return self.groups.index(group)

    def _sum(self, site: Site | str, name: str) -> Tensor:
        if _name(site) not in self.sums:
            raise KeyError(f"'{_name(site)}' is none of the sites: {', '.join(self.sums)}.")
        return self.sums[_name(site)][name].sum(0).cpu()

    # Folds

    def pooled(self) -> "Profiles":
        """The same in one fold: smaller, and without error bars."""
        return self._of_folds(lambda total: total.sum(0, keepdim=True))

    def without(self, fold: int) -> "Profiles":
        """All folds but one, in one fold."""
        return self._of_folds(lambda total: total.sum(0, keepdim=True) - total[fold : fold + 1])

    def _of_folds(self, change: Any) -> "Profiles":
        made = Profiles((), self.groups, 1, self.windows)
        made.sites = self.sites
        made.sums = {site: {name: change(total) for name, total in own.items()} for site, own in self.sums.items()}
        return made

    # Files

    def save(self, path: Path | str, **provenance: Any) -> None:
        """Write them to one safetensors file; `provenance` is what else its header says, as JSON."""
        header = {
            "sites": [site_to_json(site) for site in self.sites], "groups": self.groups, "folds": self.folds,
            "windows": self.windows,
        }  # fmt: skip
        tensors = {
            f"{n}.{name}": total for n, site in enumerate(self.sites) for name, total in self.sums[site.name].items()
        }
        write_tensors(path, "profiles", {**header, **provenance}, tensors)

    @classmethod
    def load(cls, path: Path | str) -> "Profiles":
        """Read what `save` wrote. Raises FileError where the file is another or damaged."""
        header, tensors = read_tensors(path, "profiles")
        made = cls((), header["groups"], header["folds"], header["windows"])
        made.sites = tuple(site_from_json(site) for site in header["sites"])
        for n, site in enumerate(made.sites):
            names = ("steps", "activation", "gradient", "square", "product")
            made.sums[site.name] = {name: tensors[f"{n}.{name}"] for name in names}
        return made


def fold_of(example: Example, folds: int = FOLDS) -> int:
    """The fold that an example falls into: the same in every run, on every machine, whatever the other examples."""
    return crc32(f"{Path(example.name).name}|{example.text}".encode()) % folds


def _check_alike(one: Profiles, other: Profiles) -> None:
    for what in ("sites", "folds", "windows"):
        if getattr(one, what) != getattr(other, what):
            raise ValueError(
                f"Profiles of other {what} do not go together: {getattr(one, what)}, {getattr(other, what)}."
            )


def _name(site: Site | str) -> str:
    return site if isinstance(site, str) else site.name
