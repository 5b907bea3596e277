"""Group divergence: neurons that respond differently to two groups although both say the same.

For a neuron, let d_c be its mean activation in one group minus that in the other, over the steps with content c (a
letter, for example), in standard deviations of single steps within a content. The squared distance of the groups is

    distance^2 = sum over c of w_c d_c^2,    w_c ~ n_c n'_c / (n_c + n'_c)

so d_c may be positive for some contents (vowels, say) and negative for others. The weights are those of a fixed-effects
regression: contents that one group rarely says count little. The examples (or speakers) of both groups are dealt into K
folds, so that d_c is a sum of K independent parts. Only products of different parts are summed, so noise adds nothing
on average (the cross-validated distance of Walther et al. 2016): without a difference between the groups, the estimate
is negative as often as positive.

The null distribution needs no sampling. Without a difference, either sign of each fold's part is equally likely. Over
all 2^K signs the estimate has mean 0, and its variance and skewness are sums over pairs and triples of folds. The gamma
distribution with these moments (Pearson's type III; Winkler et al. 2016 use it for permutations) gives p. The smallest
possible p is about 2 / 2^K, so K should be at least 20. Groups may differ in size and variance: only the symmetry of
each part about 0 is assumed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.introspect.bias.sums import ContentSums
from adapt.introspect.profiles.jackknife import student_quantile
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Divergence:
    """How far a group is from its reference at a site, by neuron, in standard deviations of single steps.

    Args:
        site: The site.
        contents: The contents within which the groups are compared.
        weights: The weight of each content, `(contents,)`; they add up to 1.
        difference: The mean activation of the group minus that of the reference, `(contents, units)`.
        squared_distance: The estimate of the squared distance, `(units,)`; it may be negative by chance.
        error: The jackknife standard error of `squared_distance`, `(units,)`.
        shift: The weighted mean of `difference` over contents, `(units,)`.
        shift_error: The jackknife standard error of `shift`, `(units,)`.
        p: The probability of an estimate at least as large if the groups did not differ, `(units,)`.
        spread: The standard deviation of single steps within a content, `(units,)`, in units of activation.
        means: The mean activations of the group and of the reference, `(2, contents, units)`, in units of activation.
        overall: The mean of `squared_distance` over neurons, and its standard error.
        coverage: The share of the group's steps whose content is one of these.
        degrees_of_freedom: The number of folds minus one.
    """

    site: Site
    contents: tuple[str, ...]
    weights: Tensor
    difference: Tensor
    squared_distance: Tensor
    error: Tensor
    shift: Tensor
    shift_error: Tensor
    p: Tensor
    spread: Tensor
    means: Tensor
    overall: tuple[float, float]
    coverage: float
    degrees_of_freedom: int

    @property
    def distance(self) -> Tensor:
        """The distance of the groups, `(units,)`; 0 if the estimate of its square is negative."""
        return self.squared_distance.clamp_min(0).sqrt()

    def interval(self, unit: int, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the distance at a neuron."""
        squared, error = float(self.squared_distance[unit]), float(self.error[unit])
        return distance_interval(squared, error, self.degrees_of_freedom, level)

    def shift_interval(self, unit: int, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the shift of a neuron."""
        half = student_quantile(0.5 + level / 2, self.degrees_of_freedom) * float(self.shift_error[unit])
        return float(self.shift[unit]) - half, float(self.shift[unit]) + half


def distance_interval(
    squared: float, error: float, degrees_of_freedom: int, level: float = 0.95
) -> tuple[float, float]:
    """Return the confidence interval of a distance, by Student's t.

    Args:
        squared: The estimate of the squared distance.
        error: The standard error of the squared distance.
        degrees_of_freedom: The degrees of freedom of the error.
        level: The confidence level.
    """
    half = student_quantile(0.5 + level / 2, degrees_of_freedom) * error
    return math.sqrt(max(0.0, squared - half)), math.sqrt(max(0.0, squared + half))


def group_divergence(
    sums: ContentSums, site: Site, group: Sequence[int], reference: Sequence[int], min_steps: int = 20
) -> Divergence | None:
    """Compare two sets of groups at a site, within the contents that have at least `min_steps` steps in both.

    Args:
        sums: The sums of activations.
        site: The site.
        group: The indices of the groups on one side.
        reference: The indices of the groups on the other side.
        min_steps: A content needs at least this many steps on each side.

    Returns:
        The divergence; None if no content has enough steps.
    """
    totals, places = sums.sums[site.name], sums.contents_at(site)
    n = torch.stack([totals["steps"][list(side)].sum(0)[:, places] for side in (group, reference)])
    enough = (n.sum(1) >= min_steps).all(0)  # n is (2, folds, contents)
    if not enough.any():
        return None
    places = [place for place, used in zip(places, enough.tolist(), strict=True) if used]
    n = n[:, :, enough]
    total = torch.stack([totals["activation"][list(side)][:, :, places].double().sum(0) for side in (group, reference)])
    steps = n.sum(1)  # (2, contents)
    weights = steps.prod(0) / steps.sum(0)
    weights = weights / weights.sum()
    spread = _spread(totals, places)
    parts = _fold_parts(n, total, spread)  # (folds, contents, units)
    weighted = (weights.sqrt().view(1, -1, 1) * parts).permute(2, 0, 1)
    products = weighted @ weighted.mT  # (units, folds, folds)
    products.diagonal(dim1=1, dim2=2).zero_()
    squared_distance, error = _squared_distance(products)
    overall, overall_error = _squared_distance(products.mean(0, keepdim=True))
    shifts = (weights.view(1, -1, 1) * parts).sum(1)
    folds = len(shifts)
    return Divergence(
        site=site,
        contents=tuple(sums.contents[place] for place in places),
        weights=weights,
        difference=parts.sum(0),
        squared_distance=squared_distance,
        error=error,
        shift=shifts.sum(0),
        shift_error=(folds / (folds - 1) * (shifts - shifts.mean(0)).square().sum(0)).sqrt(),
        p=sign_flip_tail(products),
        spread=spread,
        means=total.sum(1) / steps.unsqueeze(-1),
        overall=(float(overall), float(overall_error)),
        coverage=float(steps[0].sum() / totals["steps"][list(group)][:, :, 0].sum()),
        degrees_of_freedom=folds - 1,
    )


def sign_flip_tail(products: Tensor) -> Tensor:
    """Return the probability of a sum of products at least as large if the sign of each fold is random, `(units,)`.

    `products` are those of pairs of folds, `(units, folds, folds)`, with a diagonal of 0. With signs s, E[s'Gs] = 0,
    E[(s'Gs)^2] = 2 tr G^2 and E[(s'Gs)^3] = 8 tr G^3.
    """
    variance = 2 * products.square().sum((1, 2))
    third = 8 * ((products @ products) * products).sum((1, 2))
    constant = variance <= 0
    deviation = variance.where(~constant, 1).sqrt()
    z = products.sum((1, 2)) / deviation
    # Below 0.01 the distribution is close to normal; if the skewness is negative, the right tail is even shorter.
    skewness = (third / deviation**3).clamp_min(1e-2)
    shape = 4 / skewness.square()
    tail = torch.special.gammaincc(shape, (shape + z * shape.sqrt()).clamp_min(0))
    return tail.where(~constant, 1)


def _fold_parts(n: Tensor, total: Tensor, spread: Tensor) -> Tensor:
    """Return what each fold adds to the difference of the means, `(folds, contents, units)`.

    `n` `(2, folds, contents)` counts steps, `total` `(2, folds, contents, units)` sums activations.
    """
    steps = n.sum(1)
    # Centred, so that the number of steps of a content in a fold adds no noise.
    centre = total.sum((0, 1)) / steps.sum(0).unsqueeze(1)  # (contents, units)
    parts = (total - n.unsqueeze(-1) * centre) / (steps[:, None, :, None] * spread)
    return parts[0] - parts[1]


def _squared_distance(products: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distance from products of folds `(units, folds, folds)`, and its jackknife error."""
    folds = products.shape[1]
    total = products.sum((1, 2))
    without = total.unsqueeze(1) - 2 * products.sum(2)
    without = without * folds**2 / ((folds - 1) * (folds - 2))
    error = ((folds - 1) / folds * (without - without.mean(1, keepdim=True)).square().sum(1)).sqrt()
    return total * folds / (folds - 1), error


def _spread(totals: Mapping[str, Tensor], places: Sequence[int]) -> Tensor:
    """Return the standard deviation of steps from the mean of their content, `(units,)`; 1 if a neuron never varies."""
    steps = totals["steps"].sum((0, 1))[places]
    mean = totals["activation"][:, :, places].double().sum((0, 1)) / steps.unsqueeze(1)
    square = totals["square"][places].sum(0) / steps.sum()
    variance = square - (steps.unsqueeze(1) * mean.square()).sum(0) / steps.sum()
    return variance.where(variance > 1e-9 * square, 1).sqrt()
