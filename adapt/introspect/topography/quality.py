"""What a map is worth: are neighbours on it alike, are like units neighbours, and is the square used evenly?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from adapt.introspect.topography.triangles import neighbours, placed
from adapt.introspect.topography.vectors import Array, checked, cosine_distances


@dataclass(frozen=True)
class MapQuality:
    """Figures of one map; NaN where there are too few units, or all are alike.

    trust: trustworthiness (Venna & Kaski 2001) of the ten nearest on the map, by cosine distance of the profiles: 1
        where they are the ten most alike, about 0.5 at random. scikit-learn's.
    locality: mean cosine distance to the eight nearest on the map, over that to all: 1 at random, lower is better.
    moran: Moran's I (1950) of the drawn values, a mean over groups: 0 at random, 1 where neighbours are equal.
    morans: the same for each group, `(groups,)`.
    spacing: standard deviation over mean of the way to the nearest unit: 0 on a grid.
    hull: area of the convex hull of all units, over that of the smallest upright rectangle around them.
    """

    trust: float
    locality: float
    moran: float
    morans: tuple[float, ...]
    spacing: float
    hull: float


def quality(points: ArrayLike, profiles: ArrayLike) -> MapQuality:
    """Measure a map `(units, 2)` of profiles `(units, groups)`.

    Raises:
        ValueError: there is not one point for each unit.
    """
    values = checked(profiles)
    points = placed(points, len(values))
    morans = morans_i(points, values)
    found = morans[np.isfinite(morans)]
    distances = cosine_distances(values)
    return MapQuality(
        trust=_trustworthiness(points, distances),
        locality=_locality(points, distances),
        moran=float(found.mean()) if len(found) else float("nan"),
        morans=tuple(morans.tolist()),
        spacing=_spacing(points),
        hull=_hull(points),
    )


def morans_i(points: ArrayLike, profiles: ArrayLike) -> Array:
    """Moran's I of each group, `(groups,)`: the covariance of neighbours on the map over the variance of all units.

    Neighbours share an edge of the Delaunay triangulation that is not among the longest twentieth, as the long edges
    along the hull are. NaN where a group has one value for all units.
    """
    values = checked(profiles)
    points = placed(points, len(values))
    edges = neighbours(points)
    centred = values - values.mean(0)
    variance = (centred**2).mean(0)
    if not len(edges):
        return np.full(values.shape[1], np.nan)
    together = (centred[edges[:, 0]] * centred[edges[:, 1]]).mean(0)
    alike = variance <= 1e-24 * np.square(values).mean(0)
    return np.where(alike, np.nan, together / np.where(alike, 1.0, variance))


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
    near = _nearest(points, min(nearest, units - 1))[1]
    return float(np.take_along_axis(distances, near, 1).mean() / overall)


def _spacing(points: Array) -> float:
    if len(points) < 2:
        return float("nan")
    ways = _nearest(points, 1)[0][:, 0]
    return float(ways.std() / ways.mean()) if ways.mean() > 0 else float("nan")


def _nearest(points: Array, count: int) -> tuple[Array, Array]:
    """How far the nearest other units are, and which, each `(units, count)`."""
    from scipy.spatial import cKDTree

    ways, which = cKDTree(points).query(points, k=count + 1)
    # Where several share a place, a unit need not come first among its own neighbours.
    own = which == np.arange(len(points))[:, None]
    own[~own.any(1), -1] = True
    return ways[~own].reshape(-1, count), which[~own].reshape(-1, count)


def _hull(points: Array) -> float:
    from scipy.spatial import ConvexHull

    spans = np.ptp(points, 0)
    if len(points) < 3 or spans.min() == 0 or np.linalg.matrix_rank(points - points.mean(0), 1e-9) < 2:
        return float("nan")
    return float(ConvexHull(points).volume / spans.prod())
