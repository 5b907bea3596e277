"""Compare two ways of scoring neurons: overlap of the chosen neurons, and correlation of the ranks."""

from typing import Any

import torch

from interventions.neurons import Neurons, Scores


def overlap(one: Neurons, other: Neurons) -> float:
    """Return the Jaccard index of two sets of neurons; 1 if both are empty."""
    either = len(one | other)
    return len(one & other) / either if either else 1.0


def chance_overlap(one: Neurons, other: Neurons) -> float:
    """Return the Jaccard index to expect by chance, from random sets with as many neurons at each site.

    It is the expected size of the intersection, divided by that of the union.
    """
    both = sum(
        len(units) * len(other[site]) / site.units
        for site, units in zip(one.sites, one.units, strict=True)
        if site in other.sites
    )
    either = len(one) + len(other) - both
    return both / either if either else 1.0


def rank_correlation(one: Scores, other: Scores) -> float:
    """Return Spearman's correlation over all neurons that both score; 0 if one gives all neurons the same score.

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
