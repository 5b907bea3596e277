"""The triangulation of a map: which units are neighbours, and between which three a spot lies."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapt.introspect.topography.vectors import Array

if TYPE_CHECKING:
    from scipy.spatial import Delaunay


def placed(points: ArrayLike, units: int | None = None) -> Array:
    """The points as float64, `(units, 2)`.

    Raises:
        ValueError: they are not, or not as many as `units`, or not finite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or units not in (None, len(points)) or not np.isfinite(points).all():
        wanted = "units" if units is None else units
        raise ValueError(f"A map must be ({wanted}, 2), a finite place for each unit; got the shape {points.shape}.")
    return points


def triangulate(points: Array) -> "Delaunay":
    """The Delaunay triangulation of three points or more, `(units, 2)`.

    They are first moved by a millionth of the map, for on a grid, or where several share a place, there is none or no
    single one. The same points are always moved alike.
    """
    from scipy.spatial import Delaunay

    size = np.ptp(points, 0).max() or 1.0
    return Delaunay((points - points.min(0)) / size + np.random.default_rng(0).normal(scale=1e-6, size=points.shape))


def neighbours(points: Array) -> NDArray[np.int64]:
    """The pairs of units that are neighbours on a map, `(pairs, 2)`, each once; none where there are fewer than three.

    They share an edge of the triangulation, one that is not among the longest twentieth, as those along the hull are.
    """
    if len(points) < 3:
        return np.zeros((0, 2), dtype=np.int64)
    made = triangulate(points)
    triangles = made.simplices
    sides = np.vstack([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]])
    edges = np.unique(np.sort(sides, axis=1), axis=0).astype(np.int64)
    lengths = np.linalg.norm(made.points[edges[:, 0]] - made.points[edges[:, 1]], axis=1)
    return edges[lengths <= np.quantile(lengths, 0.95)]
