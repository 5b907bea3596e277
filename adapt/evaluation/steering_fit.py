"""Fit steering vectors from the activations of two groups of examples."""

from collections.abc import Sequence
from typing import Any, Literal

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.introspect.activations import read_activations, read_means
from adapt.models.model import Model
from interventions.sites import Site
from interventions.steer_fit import MeanDifference, PairPCA, ProbeDirection, SteeringVectors

Method = Literal["mean", "probe", "pca"]
Group = Sequence[Example]


def two_groups(examples: Sequence[Example], group_by: str, groups: Any) -> tuple[str, str]:
    """Return the group that a steering vector points away from, and the group that it points to.

    Args:
        examples: The training examples.
        group_by: The key that defines the groups.
        groups: The two groups, or None for the only two in the data, in order of appearance.

    Raises:
        InputError: There are not exactly two groups, or one of them has no examples.
    """
    known = list(dict.fromkeys(example.group(group_by) for example in examples))
    given = [groups] if isinstance(groups, (str, int, float)) else groups
    names = known if given is None else [str(name) for name in given]
    if len(names) != 2 or names[0] == names[1] or not set(names) <= set(known):
        raise InputError(
            f"groups must be two values of '{group_by}' in the training data, from and to, such as [a,b], got "
            f"{', '.join(names) or 'none'}. The data have {', '.join(sorted(known)) or 'none'}."
        )
    return names[0], names[1]


def fit_vectors(
    model: Model, sites: Sequence[Site], groups: tuple[Group, Group], method: Method, loader: Loader
) -> SteeringVectors:
    """Fit a vector at each site that points from the first group to the second.

    Args:
        model: The model whose activations are read.
        sites: Where to fit a vector.
        groups: The examples of both groups.
        method: "mean" is the difference of the groups' mean activations; "probe" the direction of a logistic
            regression; "pca" the first principal component of the differences between examples with the same text, each
            averaged over its time steps.
        loader: Batches the examples.

    Raises:
        InputError: "pca" found no text in both groups, or the groups do not differ at a site.
    """
    try:
        if method == "pca":
            vectors = _fit_pairs(model, sites, groups, loader)
        else:
            vectors = _fit_groups(model, sites, groups, method, loader)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"method={method}: {error} Leave out such sites with sites=...") from None
    same = [site.name for site in vectors.sites if not vectors[site].norm() > 0]
    if same:
        raise InputError(f"sites: at '{same[0]}' both groups have the same mean, so there is no vector between them.")
    return vectors


def check_pairs(*groups: Group) -> list[list[Example]]:
    """Return, for each of two groups, its examples whose text is also in the other group, in matching order.

    Raises:
        InputError: There are no such examples.
    """
    by_text = [{example.text: example for example in group} for group in groups]
    shared = [text for text in by_text[0] if text in by_text[1]]
    if not shared:
        raise InputError(
            "method=pca needs pairs of examples with the same text, one of each group, and there are none. Try "
            "method=mean."
        )
    return [[examples[text] for text in shared] for examples in by_text]


def _fit_pairs(model: Model, sites: Sequence[Site], groups: tuple[Group, Group], loader: Loader) -> SteeringVectors:
    first, second = (read_means(model, group, loader, sites) for group in check_pairs(*groups))
    fitter = PairPCA()
    for site in sites:
        fitter.update(site, first[site.name], second[site.name])
    return fitter.fit()


def _fit_groups(
    model: Model, sites: Sequence[Site], groups: tuple[Group, Group], method: str, loader: Loader
) -> SteeringVectors:
    fitter = MeanDifference() if method == "mean" else ProbeDirection()
    for number, group in enumerate(groups):
        read_activations(model, group, loader, sites, fitter.for_group(number), f"group {number + 1}")
    return fitter.fit()
