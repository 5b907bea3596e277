"""How sure a figure of profiles is: the jackknife over folds of examples, and what lies beyond the noise.

    gap = jackknife(lambda profiles: profiles.contrast("set:target", "set:source"), profiles)
    change = profile_change(before, after, "phoneme")
    change.beyond(0.01)                 # Neurons whose profile changed, at 1 % for all of them together
    change.scores().top(20)             # those that changed most

A figure is worked out anew without each fold; how much it varies then is its standard error (Tukey 1958; the
delete-a-group form, Kott 2001). Nothing is drawn at random, and no example is read again.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from adapt.introspect.profiles.profiles import Profiles
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

Figure = Callable[..., Mapping[Site, Tensor] | Scores]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A figure of each neuron, and its standard error: `(units,)` or `(groups, units)` by site.

    `freedom` is the number of folds that have steps, less one.
    """

    value: Mapping[Site, Tensor]
    error: Mapping[Site, Tensor]
    freedom: int

    def interval(self, level: float = 0.95) -> dict[Site, tuple[Tensor, Tensor]]:
        """The two ends of each figure's own interval, by Student's t."""
        times = student_quantile(0.5 + level / 2, self.freedom)
        return {
            site: (value - times * self.error[site], value + times * self.error[site])
            for site, value in self.value.items()
        }

    def beyond(self, level: float = 0.01) -> Neurons:
        """The neurons of which a figure is not 0, at `level` for all figures of all neurons together (Bonferroni).

        Where nothing changes there is thus none, in 99 of 100 cases, however many neurons there are.
        """
        count = sum(value.numel() for value in self.value.values())
        times = student_quantile(1 - level / (2 * count), self.freedom)
        chosen = {}
        for site, value in self.value.items():
            far = (value.abs() > times * self.error[site]).reshape(-1, site.units).any(0)
            chosen[site] = far.nonzero().flatten().tolist()
        return Neurons(chosen)

    def scores(self) -> Scores:
        """The size of the figure of each neuron; of several groups, the root of their mean square."""
        return Scores(
            {site: value.reshape(-1, site.units).square().mean(0).sqrt() for site, value in self.value.items()}
        )


def jackknife(figure: Figure, *profiles: Profiles) -> Estimate:
    """Estimate a figure of one or several profiles, of the same folds: `figure(*profiles)` gives a tensor by site.

    Raises:
        ValueError: fewer than two folds have steps, or the profiles have other folds.
    """
    folds = profiles[0].folds
    if any(own.folds != folds for own in profiles):
        raise ValueError(f"Profiles of {' and '.join(str(own.folds) for own in profiles)} folds do not go together.")
    filled = [
        fold for fold in range(folds)
        if all(any(own.sums[site.name]["steps"][fold].any() for site in own.sites) for own in profiles)
    ]  # fmt: skip
    if len(filled) < 2:
        raise ValueError(
            f"An error bar needs examples in two folds or more, and they are in {len(filled)} of {folds}. Give more."
        )
    whole = _by_site(figure(*(own.pooled() for own in profiles)))
    left = [_by_site(figure(*(own.without(fold) for own in profiles))) for fold in filled]
    error = {}
    for site, value in whole.items():
        # Without its only examples, a group has no figure: how sure it is, nobody knows.
        values = torch.stack([own[site] if site in own else torch.full_like(value, torch.nan) for own in left])
        variance = (values - values.mean(0)).square().sum(0) * (len(left) - 1) / len(left)
        error[site] = variance.sqrt().nan_to_num(nan=math.inf)
    return Estimate(whole, error, len(filled) - 1)


def profile_change(before: Profiles, after: Profiles, key: str) -> Estimate:
    """How the profile of each neuron changed, `(groups, units)` by site, in standard deviations before.

    It is the profile (`Profiles.nap`) of each group of `key` after, less the one before: what a neuron does to all
    groups alike does not count. Both models are to have read the same examples, which makes the error bars those of a
    paired comparison: a neuron that is the same before and after has a change of 0, without error. Groups of which all
    examples are in one fold are left out: how sure their figure is, nobody knows.

    Raises:
        ValueError: the two have no site in common at which two groups are in several folds.
    """
    return jackknife(_change(before, after, key), before, after)


def profile_change_size(before: Profiles, after: Profiles, key: str) -> Estimate:
    """How far each neuron's profile moved in all, `(units,)` by site: the root of the mean square over the groups of
    what `profile_change` has, as its `scores()`, with an error. Noise alone adds to it, so that it is never below 0.

    Raises:
        ValueError: as for `profile_change`.
    """
    change = _change(before, after, key)

    def size(old: Profiles, new: Profiles) -> dict[Site, Tensor]:
        return {site: value.square().mean(0).sqrt() for site, value in change(old, new).items()}

    return jackknife(size, before, after)


def _change(before: Profiles, after: Profiles, key: str) -> Callable[[Profiles, Profiles], dict[Site, Tensor]]:
    names = {site.name: site for site in after.sites}
    sites = [site for site in before.sites if names.get(site.name, site).units == site.units and site.name in names]
    groups = [group for group in before.of(key) if group in after.of(key)]
    # A group of which all examples are in one fold has no figure without it, and the mean over groups then has none.
    fewest = min(2, before.folds)
    used = {
        site: [g for g in groups if all(own.spread_over(site, g) >= fewest for own in (before, after))]
        for site in sites
    }
    used = {site: own for site, own in used.items() if len(own) > 1}
    if not used:
        raise ValueError(f"The two have no site in common at which two groups of '{key}' have steps in several folds.")
    spread = {site: _spread(before, site) for site in used}

    def figure(old: Profiles, new: Profiles) -> dict[Site, Tensor]:
        changes = {}
        for site, own in used.items():
            means = [one.mean(site.name, own) for one in (old, new)]
            naps = [mean - mean.mean(0) for mean in means]
            changes[site] = (naps[1] - naps[0]) / spread[site]
        return changes

    return figure


def _spread(profiles: Profiles, site: Site) -> Tensor:
    """The standard deviation of each neuron over all steps; 1 where it never varies."""
    steps = profiles.steps(site) * profiles.windows.get(site.name, 1)
    mean = profiles.mean(site, ["all"])[0]
    square = profiles.mean(site, ["all"], "square")[0]
    variance = square - mean.square()
    return variance.where(variance > 1e-9 * square, 1).sqrt() if steps else torch.ones(site.units)


def _by_site(found: Mapping[Site, Tensor] | Scores) -> dict[Site, Tensor]:
    return {site: found[site].double() for site in (found.sites if isinstance(found, Scores) else found)}


@cache
def student_quantile(share: float, freedom: int) -> float:
    """The value that Student's t stays below with probability `share`, 0.5 to below 1."""
    # With t = sqrt(freedom) * tan(angle), the density is cos(angle) ** (freedom - 1), up to a factor.
    angles = torch.linspace(0, math.pi / 2, 200_001, dtype=torch.float64)
    tail = torch.cos(angles).pow(freedom - 1).flip(0)
    beyond = torch.cumulative_trapezoid(tail, dx=1.0)  # from the far end, where what is sought may be a millionth
    beyond = torch.cat([beyond.new_zeros(1), beyond])
    beyond = beyond / (2 * beyond[-1])
    place = int(torch.searchsorted(beyond, torch.tensor(1 - share, dtype=torch.float64)).clamp(1, len(beyond) - 1))
    low, high = float(beyond[place - 1]), float(beyond[place])
    part = (1 - share - low) / (high - low) if high > low else 0.0
    angle = math.pi / 2 - (place - 1 + part) * math.pi / 2 / (len(angles) - 1)
    return math.sqrt(freedom) * math.tan(angle)
