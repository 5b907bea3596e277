"""Fit a steering vector between two groups of examples."""

from collections.abc import Sequence
from typing import Any

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.introspect.activations import read_activations, read_means
from adapt.models.model import Model
from interventions.sites import Site
from interventions.steer_fit import MeanDifference, PairPCA, ProbeDirection, SteeringVectors


def two_groups(examples: Sequence[Example], by: str, groups: Any) -> tuple[str, str]:
    """The group that a vector leads away from, and the one that it leads to; None: the only two there are, in order.

    Raises:
        InputError: there are not two, or one that is named has no example.
    """
    there = list(dict.fromkeys(example.group(by) for example in examples))
    given = [groups] if isinstance(groups, (str, int, float)) else groups
    named = [str(name) for name in given] if given is not None else there
    if len(named) != 2 or named[0] == named[1] or not set(named) <= set(there):
        raise InputError(
            f"groups: expected two values of '{by}' in the training data, from and to, such as groups=[a,b]; got "
            f"{', '.join(named) or 'none'}. There are: {', '.join(sorted(there)) or 'none'}."
        )
    return named[0], named[1]


def fit(
    model: Model,
    sites: Sequence[Site],
    groups: tuple[Sequence[Example], Sequence[Example]],
    method: str,
    loader: Loader,
) -> SteeringVectors:
    """A vector at each site, from the first group to the second.

    `method` is "mean" (the difference of the groups' means), "probe" (the direction of a logistic regression), or "pca"
    (of the differences between examples of the same text, each the mean over its own steps).

    Raises:
        InputError: no text is in both groups, and "pca" needs some; or at a site nothing tells the groups apart.
    """
    try:
        if method == "pca":
            means = [read_means(model, group, loader, sites) for group in pairs_of(*groups)]
            pairs = PairPCA()
            for site in sites:
                pairs.update(site, means[0][site.name], means[1][site.name])
            vectors = pairs.fit()
        else:
            fitter = MeanDifference() if method == "mean" else ProbeDirection()
            for number, group in enumerate(groups):
                read_activations(model, group, loader, sites, fitter.for_group(number), f"group {number + 1}")
            vectors = fitter.fit()
    except ValueError as error:
        raise InputError(f"method={method}: {error} Leave such sites out by sites=...") from None
    same = [site.name for site in vectors.sites if not vectors[site].norm() > 0]
    if same:
        raise InputError(f"At '{same[0]}' both groups have the same mean: no vector leads from one to the other.")
    return vectors


def pairs_of(*groups: Sequence[Example]) -> list[list[Example]]:
    """The examples of two groups whose text is in both, in the same order. Raises InputError where there are none."""
    by_text = [{example.text: example for example in group} for group in groups]
    both = [text for text in by_text[0] if text in by_text[1]]
    if not both:
        raise InputError("method=pca needs pairs: the same text in both groups. There is none; try method=mean.")
    return [[own[text] for text in both] for own in by_text]
