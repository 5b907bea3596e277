"""Where two groups part: neurons that do something else for one than for the other while both say the same.

For a neuron, let d_c be its mean activation in one group less that in the other, over the steps of content c (a
letter, say), in standard deviations of a step within its content. The groups' profiles are as far apart as

    apart^2 = sum over c of w_c d_c^2,    w_c ~ n_c n'_c / (n_c + n'_c)

whatever the sign of each d_c: vowels may go up and consonants down. The weights are those of a fixed-effects
regression; contents that one group hardly says count little. Both groups' examples (or speakers) are dealt into K
folds, and d_c is a sum of K independent parts. Products of different parts alone are summed, so that noise adds nothing
on average (the cross-validated distance of Walther et al. 2016): where groups do not differ, the estimate is as often
below 0 as a fair coin says.

How far chance gets is known without drawing: where the groups do not differ, each fold's part might as well have the
other sign. Over all 2^K signs the estimate has mean 0, and its variance and skewness are sums over pairs and triples
of folds; a gamma distribution with these (Pearson's type III; Winkler et al. 2016 do so with permutations) gives p. No
neuron can have a smaller p than about 2 / 2^K, so that K should be 20 or more. Groups of unequal size or variance do no
harm: what a fold's part is symmetric about is 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.introspect.bias.sums import ContentSums
from adapt.introspect.profiles.jackknife import student_quantile
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Parting:
    """How far one group is from another at a site, by neuron; all but `means` in standard deviations of a step.

        weights     (contents,)         how much each content counts, 1 in all
        difference  (contents, units)   the group's mean less the other's
        squared     (units,)            how far apart the profiles are, squared; may be below 0 by chance
        shift       (units,)            the mean of `difference`: how much more active it is
        p           (units,)            how often chance gets as far
        spread      (units,)            a standard deviation
        means       (2, contents, units)    of the group and the other
    `covered` is the share of the group's steps that have these contents. `error` and `shift_error` are jackknife
    standard errors of `squared` and `shift`, `mean` is `squared` over all neurons and its error.
    """

    site: Site
    contents: tuple[str, ...]
    weights: Tensor
    difference: Tensor
    squared: Tensor
    error: Tensor
    shift: Tensor
    shift_error: Tensor
    p: Tensor
    spread: Tensor
    means: Tensor
    mean: tuple[float, float]
    covered: float
    freedom: int

    @property
    def apart(self) -> Tensor:
        """How far apart the profiles are, `(units,)`; 0 where the estimate is below it."""
        return self.squared.clamp_min(0).sqrt()

    def interval(self, unit: int, level: float = 0.95) -> tuple[float, float]:
        """The two ends of how far apart a neuron's profiles are."""
        return distance_interval(float(self.squared[unit]), float(self.error[unit]), self.freedom, level)

    def shift_interval(self, unit: int, level: float = 0.95) -> tuple[float, float]:
        """The two ends of how much more active a neuron is."""
        far = student_quantile(0.5 + level / 2, self.freedom) * float(self.shift_error[unit])
        return float(self.shift[unit]) - far, float(self.shift[unit]) + far


def distance_interval(squared: float, error: float, freedom: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a distance, of which the square has a standard error; by Student's t."""
    far = student_quantile(0.5 + level / 2, freedom) * error
    return math.sqrt(max(0.0, squared - far)), math.sqrt(max(0.0, squared + far))


def compare(sums: ContentSums, site: Site, one: Sequence[int], other: Sequence[int], least: int = 20) -> Parting | None:
    """Compare two sets of groups at a site, within the contents of which both have at least `least` steps.

    None where there is no such content.
    """
    own, places = sums.sums[site.name], sums.of(site)
    n = torch.stack([own["steps"][list(side)].sum(0)[:, places] for side in (one, other)])  # (2, folds, contents)
    enough = (n.sum(1) >= least).all(0)
    if not enough.any():
        return None
    places = [place for place, kept in zip(places, enough.tolist(), strict=True) if kept]
    n = n[:, :, enough]
    total = torch.stack([own["activation"][list(side)][:, :, places].double().sum(0) for side in (one, other)])
    steps = n.sum(1)  # (2, contents)
    weights = steps.prod(0) / steps.sum(0)
    weights = weights / weights.sum()
    middle = total.sum((0, 1)) / steps.sum(0).unsqueeze(1)  # (contents, units)
    spread = _spread(own, places)
    # Each fold's part of the difference; taken from the middle, so that how often a fold says it adds no noise.
    parts = (total - n.unsqueeze(-1) * middle) / (steps[:, None, :, None] * spread)
    parts = parts[0] - parts[1]  # (folds, contents, units)
    weighted = (weights.sqrt().view(1, -1, 1) * parts).permute(2, 0, 1)
    products = weighted @ weighted.mT  # (units, folds, folds)
    products.diagonal(dim1=1, dim2=2).zero_()
    squared, error = _squared(products)
    overall, overall_error = _squared(products.mean(0, keepdim=True))
    shifts = (weights.view(1, -1, 1) * parts).sum(1)
    folds = len(shifts)
    return Parting(
        site, tuple(sums.contents[place] for place in places), weights, parts.sum(0), squared, error, shifts.sum(0),
        (folds / (folds - 1) * (shifts - shifts.mean(0)).square().sum(0)).sqrt(), sign_flip_tail(products), spread,
        total.sum(1) / steps.unsqueeze(-1), (float(overall), float(overall_error)),
        float(steps[0].sum() / own["steps"][list(one)][:, :, 0].sum()), folds - 1,
    )  # fmt: skip


def sign_flip_tail(products: Tensor) -> Tensor:
    """How often a sum of `products` of folds `(units, folds, folds)` is as large when folds have random signs.

    The diagonal is 0. With signs s, E[s'Gs] = 0, E[(s'Gs)^2] = 2 tr G^2 and E[(s'Gs)^3] = 8 tr G^3.
    """
    variance = 2 * products.square().sum((1, 2))
    third = 8 * ((products @ products) * products).sum((1, 2))
    still = variance <= 0
    deviation = variance.where(~still, 1).sqrt()
    z = products.sum((1, 2)) / deviation
    skewness = (third / deviation**3).clamp_min(1e-2)  # less is all but normal, and the tail of one to the left is less
    shape = 4 / skewness.square()
    tail = torch.special.gammaincc(shape, (shape + z * shape.sqrt()).clamp_min(0))
    return tail.where(~still, 1)


def _squared(products: Tensor) -> tuple[Tensor, Tensor]:
    """The squared distance from products of different folds `(units, folds, folds)`, and its jackknife error."""
    folds = products.shape[1]
    total = products.sum((1, 2))
    without = total.unsqueeze(1) - 2 * products.sum(2)
    without = without * folds**2 / ((folds - 1) * (folds - 2))
    error = ((folds - 1) / folds * (without - without.mean(1, keepdim=True)).square().sum(1)).sqrt()
    return total * folds / (folds - 1), error


def _spread(own: dict[str, Tensor], places: Sequence[int]) -> Tensor:
    """The standard deviation of a step from its content's mean, `(units,)`; 1 where a neuron never varies."""
    steps = own["steps"].sum((0, 1))[places]
    mean = own["activation"][:, :, places].double().sum((0, 1)) / steps.unsqueeze(1)
    square = own["square"][places].sum(0) / steps.sum()
    variance = square - (steps.unsqueeze(1) * mean.square()).sum(0) / steps.sum()
    return variance.where(variance > 1e-9 * square, 1).sqrt()
