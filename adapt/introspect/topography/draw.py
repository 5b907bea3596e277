"""Drawing: a map is triangulated once, and every group of it is then a product with one sparse matrix."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapt.introspect.topography.grid import framed
from adapt.introspect.topography.triangles import placed, triangulate
from adapt.introspect.topography.vectors import Array, checked

# Blue, white, red; dark at both ends, and told apart by those who see no difference of red and green.
BLUES = ((12, 50, 104), (52, 120, 190), (170, 206, 236))
REDS = ((247, 186, 166), (206, 62, 58), (102, 8, 30))
COLOURS = (*BLUES, (255, 255, 255), *REDS)
LEVELS = 60  # shades on each side of white; a picture of more of them is larger and looks the same
NOTHING = 2 * LEVELS + 1  # the level of a spot outside of the map


class Canvas:
    """A square picture of `size * size` spots over the units' places, `(units, 2)`, whatever they then respond to.

    Between units, values are interpolated linearly within each triangle, as in the papers; outside of the outermost
    units there is nothing. Where units are fewer than three, or on one line, a spot has the value of the nearest. The
    map is stretched to the edges of the picture; the first row of it is its upper edge.
    """

    def __init__(self, points: ArrayLike, size: int = 100) -> None:
        points = placed(points)
        self.units, self.size = len(points), size
        spots = (np.arange(size) + 0.5) / size
        x, y = np.meshgrid(spots, spots[::-1])
        self._matrix, self._inside = _interpolation(framed(points), np.stack([x.ravel(), y.ravel()], 1))

    def images(self, profiles: ArrayLike) -> Array:
        """The pictures of all groups of `(units, groups)`, as `(groups, size, size)`; NaN outside of the map.

        Raises:
            ValueError: there is not one profile for each unit, or one is not finite.
        """
        values = checked(profiles)
        if len(values) != self.units:
            raise ValueError(f"The map has {self.units} units, and the profiles have {len(values)}.")
        drawn = np.where(self._inside[:, None], self._matrix @ values, np.nan)
        return drawn.T.reshape(-1, self.size, self.size)


def _interpolation(points: Array, spots: Array) -> tuple[object, NDArray[np.bool_]]:
    """A sparse matrix `(spots, units)` whose rows add to 1, and which spots are on the map, `(spots,)`."""
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

    rows = np.arange(len(spots))
    if len(points) < 3 or np.linalg.svd(points - points.mean(0), compute_uv=False)[-1] < 1e-5:
        near = cKDTree(points).query(spots)[1]
        return csr_matrix((np.ones(len(spots)), (rows, near)), (len(spots), len(points))), np.ones(len(spots), bool)
    made = triangulate(points)
    triangles = made.find_simplex(spots)
    inside = triangles >= 0
    change = made.transform[triangles]
    first = np.einsum("sij,sj->si", change[:, :2], spots - change[:, 2])
    weights = np.concatenate([first, 1 - first.sum(1, keepdims=True)], 1)
    corners = made.simplices[triangles]
    keep = inside[:, None] & np.isfinite(weights)
    where = (np.repeat(rows, 3).reshape(-1, 3)[keep], corners[keep])
    return csr_matrix((weights[keep], where), (len(spots), len(points))), inside


def limit(*profiles: ArrayLike, share: float = 0.99) -> float:
    """The end of a scale for all of these: what `share` of their values do not exceed in size; never 0."""
    sizes = np.concatenate([np.abs(checked(values)).ravel() for values in profiles])
    return float(np.quantile(sizes, share)) or float(sizes.max()) or 1.0


def shades(images: ArrayLike, largest: float) -> NDArray[np.uint8]:
    """The level of each spot: 0 for `-largest` and below, `LEVELS` for 0, `2 * LEVELS` for `largest` and above."""
    values = np.asarray(images, dtype=np.float64)
    levels = np.rint(LEVELS * (1 + np.clip(np.nan_to_num(values) / largest, -1, 1)))
    return np.where(np.isnan(values), NOTHING, levels).astype(np.uint8)


def palette() -> NDArray[np.uint8]:
    """The colour of each level, `(levels, 3)`, the last of which is `NOTHING`."""
    places = np.linspace(0, 1, len(COLOURS))
    levels = np.linspace(0, 1, 2 * LEVELS + 1)
    colours = np.stack([np.interp(levels, places, channel) for channel in np.transpose(COLOURS)], 1)
    return np.rint(np.vstack([colours, [[255, 255, 255]]])).astype(np.uint8)
