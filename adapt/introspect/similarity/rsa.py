"""Representational similarity (Kriegeskorte et al. 2008): do two layers find the same groups alike?"""

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

_FEWEST = 4  # groups: three have three distances, whose order says next to nothing


def rsa(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    target: str = "phoneme",
    after: Model | None = None,
    sites: Sequence[Site] | None = None,
    most: int = 200,
    seed: int = 0,
) -> Similarity:
    """Compare layers with each other, or with those of `after`, by how far apart the groups of a target are in them.

    The groups are the classes of `target`: "phoneme", "token", or the values of a key. At each site, a group's profile
    is its mean less the mean of all groups, and the distance of two groups 1 less the cosine of their profiles. The
    similarity of two layers is Spearman's correlation of these distances, so that units need not correspond at all.
    Of each group at most `most` rows are read, drawn evenly (see `adapt.introspect.probes.target`).

    Raises:
        InputError: there are fewer than 4 groups, or the target cannot be read at the sites.
    """
    wanted = make_target(model, examples, target, most, seed)
    if len(wanted.classes) < _FEWEST:
        raise InputError(
            f"RSA compares distances between groups and needs {_FEWEST} of them or more; '{target}' has "
            f"{', '.join(wanted.classes)}. Take phoneme or speaker, or another method."
        )
    sites = sites_of(model, wanted, sites)
    first = _distances(model, examples, loader, wanted, sites)
    second = first
    if after is not None:
        # Tokens are numbered by each model's own tokenizer, and speech is read the same.
        wanted = make_target(after, examples, target, most, seed)
        names = {site.name for site in sites}
        second = _distances(after, examples, loader, wanted, [s for s in sites_of(after, wanted) if s.name in names])
    matrix = np.nan_to_num([[_correlation(x, y) for y in second.values()] for x in first.values()])
    return Similarity("rsa", tuple(first), tuple(second), torch.from_numpy(matrix), len(wanted.classes), "group")


def _distances(
    model: Model, examples: Sequence[Example], loader: Loader, target: Target, sites: Sequence[Site]
) -> dict[str, np.ndarray]:
    """The distance ranks of all pairs of groups, by site name; all 0 where the groups do not differ."""
    from scipy.spatial.distance import pdist
    from scipy.stats import rankdata

    found = {}
    for name, rows in read_target(model, examples, loader, target, sites).items():
        means = class_means(rows.double(), target.labels, len(target.classes))
        profiles = (means - means.mean(0)).numpy()
        still = np.linalg.norm(profiles, axis=1).min() <= 1e-9 * np.abs(means.numpy()).max()
        ranks = np.zeros(1) if still else rankdata(pdist(profiles, "cosine"))
        found[name] = ranks - ranks.mean()
    return found


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return float((x * y).sum() / lengths) if lengths > 0 else 0.0
