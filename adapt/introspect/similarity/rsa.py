"""Representational similarity analysis (Kriegeskorte et al. 2008): compare layers by the distances between groups."""

from collections.abc import Sequence

import numpy as np
import torch

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.introspect.probes.fitted import class_means
from adapt.introspect.probes.target import Target, make_target, read_target, sites_of
from adapt.introspect.similarity.similarity import Similarity
from adapt.models.model import Model
from interventions.sites import Site

_MIN_GROUPS = 4  # three groups have only three distances, whose order means little


def rsa(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    target: str = "phoneme",
    other: Model | None = None,
    sites: Sequence[Site] | None = None,
    max_per_group: int = 200,
    seed: int = 0,
) -> Similarity:
    """Compare layers by the distances between groups of activations.

    The profile of a group at a site is the mean of its rows minus the mean over all groups. The distance of two groups
    is 1 minus the cosine of their profiles. The similarity of two layers is Spearman's correlation of these distances,
    so the units of the layers need not correspond.

    Args:
        model: The model whose layers are the rows of the result.
        examples: The examples that both models read.
        loader: Makes the batches.
        target: What the groups are: "phoneme", "token", or any key of the examples (`adapt.introspect.probes.target`).
        other: A second model, whose layers are the columns; None: the same model.
        sites: The sites to compare; None: the default sites of the model.
        max_per_group: Number of rows per group, drawn at random.
        seed: Seed of that draw.

    Raises:
        InputError: There are fewer than 4 groups, or the target cannot be read at the sites.
    """
    groups = make_target(model, examples, target, max_per_group, seed)
    if len(groups.classes) < _MIN_GROUPS:
        raise InputError(
            f"RSA needs at least {_MIN_GROUPS} groups; '{target}' has {', '.join(groups.classes)}. Use phoneme or "
            "speaker as target, or another method."
        )
    sites = sites_of(model, groups, sites)
    first = _distances(model, examples, loader, groups, sites)
    second = first
    if other is not None:
        # Token numbers depend on the tokenizer of the model.
        groups = make_target(other, examples, target, max_per_group, seed)
        names = {site.name for site in sites}
        second = _distances(other, examples, loader, groups, [s for s in sites_of(other, groups) if s.name in names])
    matrix = np.nan_to_num([[_correlation(x, y) for y in second.values()] for x in first.values()])
    return Similarity("rsa", tuple(first), tuple(second), torch.from_numpy(matrix), len(groups.classes), "group")


def _distances(
    model: Model, examples: Sequence[Example], loader: Loader, target: Target, sites: Sequence[Site]
) -> dict[str, np.ndarray]:
    """Return the centred ranks of the distances of all pairs of groups by site name; 0 if the groups do not differ."""
    from scipy.spatial.distance import pdist
    from scipy.stats import rankdata

    ranks_by_site = {}
    for name, rows in read_target(model, examples, loader, target, sites).items():
        means = class_means(rows.double(), target.labels, len(target.classes))
        profiles = (means - means.mean(0)).numpy()
        constant = np.linalg.norm(profiles, axis=1).min() <= 1e-9 * np.abs(means.numpy()).max()
        ranks = np.zeros(1) if constant else rankdata(pdist(profiles, "cosine"))
        ranks_by_site[name] = ranks - ranks.mean()
    return ranks_by_site


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return float((x * y).sum() / lengths) if lengths > 0 else 0.0
