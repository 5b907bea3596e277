"""The quality of a map: are neighbours similar, are similar units neighbours, and is the square used evenly?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapt.introspect.topography.triangles import neighbours, placed
from adapt.introspect.topography.vectors import Array, checked, cosine_distances


@dataclass(frozen=True)
class MapQuality:
    """Quality figures of a map; NaN with too few units, or if all units are the same.

    Args:
        trust: Trustworthiness (Venna & Kaski 2001; scikit-learn) of the ten nearest units on the map, by the cosine
            distance of profiles: 1 if they are the ten most similar, about 0.5 at random.
        locality: The mean cosine distance to the eight nearest units on the map, relative to that to all units: 1 at
            random, lower is better.
        moran: Moran's I (1950) of the drawn values, mean over groups: 0 at random, 1 if neighbours are equal.
        morans: Moran's I of each group, `(groups,)`.
        spacing: The standard deviation of the distance to the nearest unit, relative to its mean: 0 on a grid.
        hull: The area of the convex hull of all units, relative to their bounding box.
    """

    trust: float
    locality: float
    moran: float
    morans: tuple[float, ...]
    spacing: float
    hull: float


def quality(points: ArrayLike, profiles: ArrayLike) -> MapQuality:
    """Measure the quality of a map `(units, 2)` of profiles `(units, groups)`.

    Raises:
        ValueError: The numbers of units differ.
    """
    values = checked(profiles)
    places = placed(points, len(values))
    morans = morans_i(places, values)
    finite = morans[np.isfinite(morans)]
    distances = cosine_distances(values)
    return MapQuality(
        trust=_trustworthiness(places, distances),
        locality=_locality(places, distances),
        moran=float(finite.mean()) if len(finite) else float("nan"),
        morans=tuple(morans.tolist()),
        spacing=_spacing(places),
        hull=_hull(places),
    )


def morans_i(points: ArrayLike, profiles: ArrayLike) -> Array:
    """Return Moran's I of each group, `(groups,)`: the covariance of neighbours over the variance of all units.

    Neighbours share an edge of the Delaunay triangulation, without the longest 5 % of edges, which are those along the
    hull. NaN for a group with the same value at all units.
    """
    values = checked(profiles)
    edges = neighbours(placed(points, len(values)))
    centred = values - values.mean(0)
    variance = (centred**2).mean(0)
    if not len(edges):
        return np.full(values.shape[1], np.nan)
    covariance = (centred[edges[:, 0]] * centred[edges[:, 1]]).mean(0)
    constant = variance <= 1e-24 * np.square(values).mean(0)
    return np.where(constant, np.nan, covariance / np.where(constant, 1.0, variance))


def _trustworthiness(points: Array, distances: Array, nearest: int = 10) -> float:
    nearest = min(nearest, (len(points) - 1) // 2)
    if nearest < 1:
        return float("nan")
    from sklearn.manifold import trustworthiness

    return float(trustworthiness(distances, points, n_neighbors=nearest, metric="precomputed"))


def _locality(points: Array, distances: Array, nearest: int = 8) -> float:
    units = len(points)
    overall = distances.sum() / max(1, units * (units - 1))
    if overall == 0:
        return float("nan")
    _, numbers = _nearest(points, min(nearest, units - 1))
    return float(np.take_along_axis(distances, numbers, 1).mean() / overall)


def _spacing(points: Array) -> float:
    if len(points) < 2:
        return float("nan")
    nearest, _ = _nearest(points, 1)
    return float(nearest.std() / nearest.mean()) if nearest.mean() > 0 else float("nan")


def _nearest(points: Array, count: int) -> tuple[Array, NDArray[np.int64]]:
    """Return the distances and the indices of the nearest other units, each `(units, count)`."""
    from scipy.spatial import KDTree

    # The leaf size decides which of several equally near units are found.
    found = KDTree(points, leafsize=16).query(points, k=count + 1)
    distances, numbers = np.asarray(found[0]), np.asarray(found[1])
    # Leave out the unit itself, which need not be the first if several units share a place.
    itself = numbers == np.arange(len(points))[:, None]
    itself[~itself.any(1), -1] = True
    return distances[~itself].reshape(-1, count), numbers[~itself].reshape(-1, count)


def _hull(points: Array) -> float:
    from scipy.spatial import ConvexHull

    spans = np.ptp(points, 0)
    if len(points) < 3 or spans.min() == 0 or np.linalg.matrix_rank(points - points.mean(0), 1e-9) < 2:
        return float("nan")
    return float(ConvexHull(points).volume / spans.prod())
