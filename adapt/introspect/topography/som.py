"""Self-organising maps: units find their places on a grid whose cells become like the units around them.

`sort` ends with one unit a cell (linear assignment sorting: Barthel, Hezel, Jung & Schall 2023, "Improved Evaluation
and Generation of Grid Layouts using Distance Preservation Quality and Linear Assignment Sorting", arXiv 2205.04255).
`gather` lets several share one (Kohonen 1982, the batch rule), as the papers on topographic maps do.
"""

import math

import numpy as np
from numpy.typing import NDArray

from adapt.introspect.topography.grid import framed, grid_points, grid_size
from adapt.introspect.topography.vectors import Array


def sort(space: Array, start: Array, epochs: int = 20, assigned: int = 4, last_reach: float = 0.7) -> Array:
    """Place `space`, `(units, groups)`, on the cells of a grid, `(units, 2)`; `start`, `(units, 2)`, is a first guess.

    In each epoch a cell becomes the mean of all units, weighted by how near they are, within a reach that shrinks from
    half of the grid to `last_reach` cells; then each unit goes to the cell most like it, and in the `assigned` last
    epochs, where cells differ enough for that to be quick, each to one of its own so that all fit best together.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = grid_size(len(space))
    cell = _nearest_cell(start, rows, columns)
    for epoch, reach in enumerate(np.geomspace(max(1.0, columns / 2), last_reach, epochs)):
        unlike = _unlike(space, _cells(space, cell, rows, columns, reach))
        cell = unlike.argmin(1) if epoch < epochs - assigned else linear_sum_assignment(unlike)[1]
    return grid_points(len(space))[cell]


def gather(space: Array, start: Array, epochs: int = 20, last_reach: float = 0.5) -> Array:
    """Place `space`, `(units, groups)`, on a square of nodes, `(units, 2)`; `start`, `(units, 2)`, is a first guess.

    Units of one node end on a circle of a fifth of a node around it.
    """
    side = math.isqrt(len(space)) + 1
    node = _nearest_cell(start, side, side)
    for reach in np.geomspace(max(1.0, side / 2), last_reach, epochs):
        node = _unlike(space, _cells(space, node, side, side, reach)).argmin(1)
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
    """What each cell is like, `(cells, groups)`: the mean of all units by a Gaussian of their distance from it."""
    sums = np.zeros((rows * columns, space.shape[1] + 1))
    np.add.at(sums, cell, np.hstack([space, np.ones((len(space), 1))]))
    # A Gaussian over the grid is one along each of its axes.
    down, right = (np.exp(-((np.arange(n)[:, None] - np.arange(n)) ** 2) / (2 * reach**2)) for n in (rows, columns))
    blurred = np.tensordot(down, sums.reshape(rows, columns, -1), 1)
    blurred = (right @ blurred).reshape(rows * columns, -1)
    return blurred[:, :-1] / (blurred[:, -1:] + 1e-12)


def _unlike(space: Array, cells: Array) -> Array:
    """Squared distances of units and cells, `(units, cells)`, less each unit's own squared length."""
    return (cells**2).sum(1) - 2 * space @ cells.T
