"""The triangulation of a map: the neighbours of each unit, and the three units around each pixel."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapt.introspect.topography.vectors import Array

if TYPE_CHECKING:
    from scipy.spatial import Delaunay


def placed(points: ArrayLike, units: int | None = None) -> Array:
    """Return the places of units as float64, `(units, 2)`.

    Raises:
        ValueError: The shape or the number of units is wrong, or a place is not finite.
    """
    places = np.asarray(points, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 2 or units not in (None, len(places)) or not np.isfinite(places).all():
        expected = "units" if units is None else units
        raise ValueError(
            f"A map must have the shape ({expected}, 2) and only finite coordinates; got the shape {places.shape}."
        )
    return places


def triangulate(points: Array) -> "Delaunay":
    """Return the Delaunay triangulation of at least three points, `(units, 2)`.

    The points are first moved by a millionth of the size of the map, because points on a grid or at the same place have
    no unique triangulation. The same points are always moved in the same way.
    """
    from scipy.spatial import Delaunay

    size = np.ptp(points, 0).max() or 1.0
    return Delaunay((points - points.min(0)) / size + np.random.default_rng(0).normal(scale=1e-6, size=points.shape))


def neighbours(points: Array) -> NDArray[np.int64]:
    """Return each pair of neighbouring units of a map once, `(pairs, 2)`; none for fewer than three units.

    Neighbours share an edge of the triangulation, without the longest 5 % of edges, which are those along the hull.
    """
    if len(points) < 3:
        return np.zeros((0, 2), dtype=np.int64)
    made = triangulate(points)
    triangles = made.simplices
    sides = np.vstack([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]])
    edges = np.unique(np.sort(sides, axis=1), axis=0).astype(np.int64)
    lengths = np.linalg.norm(made.points[edges[:, 0]] - made.points[edges[:, 1]], axis=1)
    return edges[lengths <= np.quantile(lengths, 0.95)]
