"""Draw maps: a map is triangulated once, and the image of each group is a product with one sparse matrix."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapt.introspect.topography.grid import framed
from adapt.introspect.topography.triangles import placed, triangulate
from adapt.introspect.topography.vectors import Array, checked

# Blue, white, red, dark at both ends; readable with red-green colour blindness.
BLUES = ((12, 50, 104), (52, 120, 190), (170, 206, 236))
REDS = ((247, 186, 166), (206, 62, 58), (102, 8, 30))
COLOURS = (*BLUES, (255, 255, 255), *REDS)
LEVELS = 60  # shades on each side of white; more make the file larger without a visible difference
NOTHING = 2 * LEVELS + 1  # the level of a pixel outside of the map


class Canvas:
    """A square of `size * size` pixels over the places of units, `(units, 2)`.

    Values between units are interpolated linearly within each triangle, as in the papers; pixels outside of the convex
    hull are empty. With fewer than three units, or units on one line, each pixel has the value of the nearest unit. The
    map is stretched to the edges of the image, whose first row is the upper edge.
    """

    def __init__(self, points: ArrayLike, size: int = 100) -> None:
        points = placed(points)
        self.units, self.size = len(points), size
        centres = (np.arange(size) + 0.5) / size
        x, y = np.meshgrid(centres, centres[::-1])
        self._matrix, self._inside = _interpolation(framed(points), np.stack([x.ravel(), y.ravel()], 1))

    def images(self, profiles: ArrayLike) -> Array:
        """Return the images of profiles `(units, groups)`, `(groups, size, size)`; NaN outside of the map.

        Raises:
            ValueError: The number of units differs, or a value is not finite.
        """
        values = checked(profiles)
        if len(values) != self.units:
            raise ValueError(f"The map has {self.units} units, and the profiles have {len(values)}.")
        drawn = np.where(self._inside[:, None], self._matrix @ values, np.nan)
        return drawn.T.reshape(-1, self.size, self.size)


def _interpolation(points: Array, pixels: Array) -> tuple[Any, NDArray[np.bool_]]:
    """Return a sparse matrix `(pixels, units)` whose rows add up to 1, and which pixels are on the map, `(pixels,)`."""
    from scipy.sparse import csr_matrix
    from scipy.spatial import KDTree

    rows = np.arange(len(pixels))
    if len(points) < 3 or np.linalg.svd(points - points.mean(0), compute_uv=False)[-1] < 1e-5:
        nearest = KDTree(points, leafsize=16).query(pixels)[1]
        matrix = csr_matrix((np.ones(len(pixels)), (rows, nearest)), (len(pixels), len(points)))
        return matrix, np.ones(len(pixels), bool)
    triangulation = triangulate(points)
    triangles = triangulation.find_simplex(pixels)
    inside = triangles >= 0
    transform = triangulation.transform[triangles]
    first = np.einsum("sij,sj->si", transform[:, :2], pixels - transform[:, 2])
    weights = np.concatenate([first, 1 - first.sum(1, keepdims=True)], 1)  # barycentric coordinates
    corners = triangulation.simplices[triangles]
    used = inside[:, None] & np.isfinite(weights)
    where = (np.repeat(rows, 3).reshape(-1, 3)[used], corners[used])
    return csr_matrix((weights[used], where), (len(pixels), len(points))), inside


def limit(*profiles: ArrayLike, share: float = 0.99) -> float:
    """Return the end of a colour scale for all profiles: the `share` quantile of their absolute values; never 0."""
    sizes = np.concatenate([np.abs(checked(values)).ravel() for values in profiles])
    return float(np.quantile(sizes, share)) or float(sizes.max()) or 1.0


def shades(images: ArrayLike, largest: float) -> NDArray[np.uint8]:
    """Return the level of each pixel: 0 for `-largest` or less, `LEVELS` for 0, `2 * LEVELS` for `largest` or more."""
    values = np.asarray(images, dtype=np.float64)
    levels = np.rint(LEVELS * (1 + np.clip(np.nan_to_num(values) / largest, -1, 1)))
    return np.where(np.isnan(values), NOTHING, levels).astype(np.uint8)


def palette() -> NDArray[np.uint8]:
    """Return the colour of each level, `(levels, 3)`; the last level is `NOTHING`."""
    places = np.linspace(0, 1, len(COLOURS))
    levels = np.linspace(0, 1, 2 * LEVELS + 1)
    colours = np.stack([np.interp(levels, places, channel) for channel in np.transpose(COLOURS)], 1)
    return np.rint(np.vstack([colours, [[255, 255, 255]]])).astype(np.uint8)
