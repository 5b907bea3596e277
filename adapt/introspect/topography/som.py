"""Self-organising maps: units move to the most similar grid cell, and cells become the mean of nearby units.

`sort` ends with one unit per cell (linear assignment sorting: Barthel, Hezel, Jung & Schall 2023, "Improved Evaluation
and Generation of Grid Layouts using Distance Preservation Quality and Linear Assignment Sorting", arXiv 2205.04255).
`gather` lets several units share a node (Kohonen 1982, the batch rule), as the papers on topographic maps do.
"""

import math

import numpy as np
from numpy.typing import NDArray

from adapt.introspect.topography.grid import framed, grid_points, grid_size
from adapt.introspect.topography.vectors import Array


def sort(space: Array, start: Array, epochs: int = 20, assigned: int = 4, last_reach: float = 0.7) -> Array:
    """Give each unit its own cell of a grid.

    In each epoch, each cell becomes the mean of all units, weighted by nearness, with a reach that shrinks from half of
    the grid to `last_reach` cells. Then each unit moves to the most similar cell. In the last epochs, when cells differ
    enough for this to be fast, units are assigned different cells with the best total similarity.

    Args:
        space: The vectors of the units, `(units, groups)`.
        start: The initial places, `(units, 2)`.
        epochs: The number of epochs.
        assigned: The number of epochs, at the end, in which units have different cells.
        last_reach: The reach of the last epoch, in cells.

    Returns:
        The places, `(units, 2)`.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = grid_size(len(space))
    cell = _nearest_cell(start, rows, columns)
    for epoch, reach in enumerate(np.geomspace(max(1.0, columns / 2), last_reach, epochs)):
        distances = _distances(space, _cells(space, cell, rows, columns, reach))
        cell = distances.argmin(1) if epoch < epochs - assigned else linear_sum_assignment(distances)[1]
    return grid_points(len(space))[cell]


def gather(space: Array, start: Array, epochs: int = 20, last_reach: float = 0.5) -> Array:
    """Place vectors `(units, groups)` on a square of nodes, from initial places `(units, 2)`. Returns `(units, 2)`.

    The units of a node end on a circle around it, whose radius is a fifth of the distance between nodes.
    """
    side = math.isqrt(len(space)) + 1
    node = _nearest_cell(start, side, side)
    for reach in np.geomspace(max(1.0, side / 2), last_reach, epochs):
        node = _distances(space, _cells(space, node, side, side, reach)).argmin(1)
    points = np.stack([node % side, node // side], 1).astype(np.float64)
    for shared, count in zip(*np.unique(node, return_counts=True), strict=True):
        if count > 1:
            turn = 2 * np.pi * np.arange(count) / count
            points[node == shared] += 0.2 * np.stack([np.cos(turn), np.sin(turn)], 1)
    return points


def _nearest_cell(points: Array, rows: int, columns: int) -> NDArray[np.int64]:
    column, row = np.rint(framed(points) * (columns - 1, rows - 1)).astype(np.int64).T
    return row * columns + column


def _cells(space: Array, cell: NDArray[np.int64], rows: int, columns: int, reach: float) -> Array:
    """Return the vector of each cell, `(cells, groups)`: the mean of all units, with Gaussian weights by distance."""
    sums = np.zeros((rows * columns, space.shape[1] + 1))
    np.add.at(sums, cell, np.hstack([space, np.ones((len(space), 1))]))
    # A Gaussian over the grid is the product of one along each axis.
    down, right = (np.exp(-((np.arange(n)[:, None] - np.arange(n)) ** 2) / (2 * reach**2)) for n in (rows, columns))
    blurred = np.tensordot(down, sums.reshape(rows, columns, -1), 1)
    blurred = (right @ blurred).reshape(rows * columns, -1)
    return blurred[:, :-1] / (blurred[:, -1:] + 1e-12)


def _distances(space: Array, cells: Array) -> Array:
    """Return squared distances of units and cells, `(units, cells)`, without the squared length of each unit."""
    return (cells**2).sum(1) - 2 * space @ cells.T
