"""Compare two scores of neurons: the overlap of the neurons they choose, and the correlation of their ranks."""

from typing import Any

import torch

from interventions.neurons import Neurons, Scores


def overlap(one: Neurons, other: Neurons) -> float:
    """Return the Jaccard index of two sets of neurons; 1 if both are empty."""
    either = len(one | other)
    return len(one & other) / either if either else 1.0


def chance_overlap(one: Neurons, other: Neurons) -> float:
    """Return the Jaccard index of the expected counts for random sets with as many neurons at each site."""
    both = sum(
        len(units) * len(other[site]) / site.units
        for site, units in zip(one.sites, one.units, strict=True)
        if site in other.sites
    )
    either = len(one) + len(other) - both
    return both / either if either else 1.0


def rank_correlation(one: Scores, other: Scores) -> float:
    """Return Spearman's correlation over all neurons with a score in both; 0 if all scores of one are equal.

    Raises:
        ValueError: `one` and `other` have no site in common.
    """
    from scipy.stats import spearmanr

    sites = [site for site in one.sites if site in other.sites]
    if not sites:
        raise ValueError("The scores have no site in common, so their ranks cannot be correlated.")
    first, second = (torch.cat([scores[site].double() for site in sites]) for scores in (one, other))
    if (first == first[0]).all() or (second == second[0]).all():
        return 0.0
    result: Any = spearmanr(first.numpy(), second.numpy())
    return float(result.statistic)
