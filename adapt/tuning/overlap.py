"""Whether two ways of scoring neurons agree: in whom they choose, and in the order of all."""

import torch
from torch import Tensor

from interventions.neurons import Neurons, Scores


def overlap(one: Neurons, other: Neurons) -> float:
    """The share of the neurons in either set that is in both (Jaccard); 1 where both are empty."""
    either = len(one | other)
    return len(one & other) / either if either else 1.0


def chance_overlap(one: Neurons, other: Neurons) -> float:
    """The overlap to expect of sets that have as many neurons at each site, drawn at random: of the mean counts."""
    both = sum(
        len(units) * len(other[site]) / site.units
        for site, units in zip(one.sites, one.units, strict=True)
        if site in other.sites
    )
    either = len(one) + len(other) - both
    return both / either if either else 1.0


def rank_correlation(one: Scores, other: Scores) -> float:
    """Spearman's, over all neurons that both score; 0 where one of them scores all alike.

    Raises:
        ValueError: they have no site in common.
    """
    sites = [site for site in one.sites if site in other.sites]
    if not sites:
        raise ValueError("The two have scores of different sites, and nothing to correlate.")
    ranks = torch.stack([_ranks(torch.cat([own[site].double() for site in sites])) for own in (one, other)])
    centred = ranks - ranks.mean(1, keepdim=True)
    length = centred.norm(dim=1).prod()
    return float((centred[0] * centred[1]).sum() / length) if length > 0 else 0.0


def _ranks(values: Tensor) -> Tensor:
    # Equal values share the mean of their ranks.
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts - 1) / 2)[places]
