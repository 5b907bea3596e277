"""Standard errors of figures of profiles: the jackknife over folds of examples.

    gap = jackknife(lambda profiles: profiles.contrast("set:target", "set:source"), profiles)
    change = profile_change(before, after, "phoneme")
    change.significant(0.01)            # neurons whose profile changed, at a familywise error rate of 1 %
    change.scores().top(20)             # those that changed most

A figure is computed again without each fold. How much it varies gives its standard error (Tukey 1958; the
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
    """A figure of each neuron with its standard error, both `(units,)` or `(groups, units)` by site.

    `degrees_of_freedom` is the number of folds that have steps, minus one.
    """

    value: Mapping[Site, Tensor]
    error: Mapping[Site, Tensor]
    degrees_of_freedom: int

    def interval(self, level: float = 0.95) -> dict[Site, tuple[Tensor, Tensor]]:
        """Return the low and the high end of the confidence interval of each figure, by Student's t."""
        times = student_quantile(0.5 + level / 2, self.degrees_of_freedom)
        return {
            site: (value - times * self.error[site], value + times * self.error[site])
            for site, value in self.value.items()
        }

    def significant(self, level: float = 0.01) -> Neurons:
        """Return the neurons with a figure significantly different from 0.

        `level` is the familywise error rate over all figures of all neurons (Bonferroni).

        If nothing changes, the result is empty in 99 of 100 cases at the default level.
        """
        count = sum(value.numel() for value in self.value.values())
        times = student_quantile(1 - level / (2 * count), self.degrees_of_freedom)
        units = {}
        for site, value in self.value.items():
            significant = (value.abs() > times * self.error[site]).reshape(-1, site.units).any(0)
            units[site] = significant.nonzero().flatten().tolist()
        return Neurons(units)

    def scores(self) -> Scores:
        """Return the size of the figure of each neuron: the root mean square over groups."""
        return Scores(
            {site: value.reshape(-1, site.units).square().mean(0).sqrt() for site, value in self.value.items()}
        )


def jackknife(figure: Figure, *profiles: Profiles) -> Estimate:
    """Estimate a figure of one or more profiles with the same number of folds.

    `figure(*profiles)` returns a tensor by site.

    Raises:
        ValueError: Fewer than two folds have steps, or the numbers of folds differ.
    """
    folds = profiles[0].folds
    if any(other.folds != folds for other in profiles):
        counts = " and ".join(str(each.folds) for each in profiles)
        raise ValueError(f"Profiles of {counts} folds cannot be compared. Make both with the same number of folds.")
    filled = [fold for fold in range(folds) if all(_has_steps(each, fold) for each in profiles)]
    if len(filled) < 2:
        raise ValueError(
            f"Error bars need examples in at least two folds; {len(filled)} of {folds} have any. Give more examples."
        )
    whole = _by_site(figure(*(each.pooled() for each in profiles)))
    mean, squares = ({site: torch.zeros_like(value) for site, value in whole.items()} for _ in range(2))
    for count, fold in enumerate(filled, 1):  # one fold after another (Welford 1962), because figures may be large
        without = _by_site(figure(*(each.without(fold) for each in profiles)))
        for site in whole:
            # A group whose only examples are in the fold left out has no figure, and so an infinite error.
            difference = without[site] - mean[site] if site in without else torch.full_like(mean[site], torch.nan)
            mean[site] += difference / count
            squares[site] += difference.square() * (count - 1) / count
    share = (len(filled) - 1) / len(filled)
    error = {site: (own * share).sqrt().nan_to_num(nan=math.inf) for site, own in squares.items()}
    return Estimate(whole, error, len(filled) - 1)


def profile_change(before: Profiles, after: Profiles, key: str) -> Estimate:
    """Estimate the change of the profile of each neuron, `(groups, units)` by site, in standard deviations before.

    It is `Profiles.nap` after minus `Profiles.nap` before, for each group of `key`, so a change that is the same for
    all groups does not count. Both models must have read the same examples, so the comparison is paired: a neuron that
    did not change has a change of 0 with an error of 0. Groups with all examples in one fold have no error, and are
    left out.

    Raises:
        ValueError: There is no common site where two groups have steps in several folds.
    """
    return jackknife(_change(before, after, key), before, after)


def profile_change_size(before: Profiles, after: Profiles, key: str) -> Estimate:
    """Estimate the size of the change of each neuron, `(units,)` by site: the root mean square of `profile_change`.

    Noise increases it on average, because squares are never negative. Raises ValueError as `profile_change` does.
    """
    change = _change(before, after, key)

    def size(old: Profiles, new: Profiles) -> dict[Site, Tensor]:
        return {site: value.square().mean(0).sqrt() for site, value in change(old, new).items()}

    return jackknife(size, before, after)


def _change(before: Profiles, after: Profiles, key: str) -> Callable[[Profiles, Profiles], dict[Site, Tensor]]:
    units = {site.name: site.units for site in after.sites}
    sites = [site for site in before.sites if units.get(site.name) == site.units]
    groups = [group for group in before.groups_of(key) if group in after.groups_of(key)]
    # Without its only fold, a group has no figure, and neither has the mean over groups.
    min_folds = min(2, before.folds)
    used = {
        site: [g for g in groups if all(each.folds_with(site, g) >= min_folds for each in (before, after))]
        for site in sites
    }
    used = {site: names for site, names in used.items() if len(names) > 1}
    if not used:
        raise ValueError(f"There is no common site where two groups of '{key}' have steps in several folds.")
    spread = {site: _spread(before, site) for site in used}

    def figure(old: Profiles, new: Profiles) -> dict[Site, Tensor]:
        changes = {}
        for site, names in used.items():
            means = [each.mean(site.name, names) for each in (old, new)]
            naps = [mean - mean.mean(0) for mean in means]
            changes[site] = (naps[1] - naps[0]) / spread[site]
        return changes

    return figure


def _spread(profiles: Profiles, site: Site) -> Tensor:
    # The standard deviation of each neuron over all steps; 1 for a neuron that never varies.
    if not profiles.steps(site):
        return torch.ones(site.units)
    mean = profiles.mean(site, ["all"])[0]
    square = profiles.mean(site, ["all"], "square")[0]
    variance = square - mean.square()
    return variance.where(variance > 1e-9 * square, 1).sqrt()


def _has_steps(profiles: Profiles, fold: int) -> bool:
    return any(bool(profiles.sums[site.name]["steps"][fold].any()) for site in profiles.sites)


def _by_site(figure: Mapping[Site, Tensor] | Scores) -> dict[Site, Tensor]:
    sites = figure.sites if isinstance(figure, Scores) else figure
    return {site: figure[site].double() for site in sites}


@cache
def student_quantile(probability: float, degrees_of_freedom: int) -> float:
    """Return the quantile of Student's t distribution; `probability` is at least 0.5 and less than 1."""
    from scipy.special import stdtrit

    # Computed from the lower tail, where a tiny probability keeps its precision.
    return -float(stdtrit(degrees_of_freedom, 1 - probability))
