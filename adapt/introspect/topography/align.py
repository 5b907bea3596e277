"""Turn a map onto another: the rotation or mirror image that brings what belongs together nearest, in closed form.

A layout has no up and no left. Two maps, of two layers or of one before and after, can only be compared by eye when
what is alike lies on the same side of both (orthogonal Procrustes; Schönemann 1966). To see only what the units do
differently, draw what they do after on the map of before: the same points, other profiles.
"""

import numpy as np
from numpy.typing import ArrayLike

from adapt.introspect.topography.triangles import placed
from adapt.introspect.topography.vectors import Array, checked, vectors


def procrustes(points: ArrayLike, onto: ArrayLike, square: bool = False) -> Array:
    """Turn a map `(units, 2)` of some units onto another map of the same units, so that the squared ways are least.

    The turned map has the centre of the other; its size stays. `square` allows only quarter turns and their mirror
    images, which leave a grid a grid.

    Raises:
        ValueError: the maps have not the same units.
    """
    onto = placed(onto)
    points = placed(points, len(onto))
    return _turned(points, onto, (points - points.mean(0)).T @ (onto - onto.mean(0)), square)


def align_layers(
    points: ArrayLike, profiles: ArrayLike, onto: ArrayLike, onto_profiles: ArrayLike, square: bool = False
) -> Array:
    """Turn a map of one layer onto that of another, so that units which respond alike lie in the same direction.

    The maps are `(units, 2)` and `(others, 2)`, the profiles `(units, groups)` and `(others, groups)`, of the same
    groups. It is the turn that makes the sum over all pairs of units of *cosine of their profiles times inner product
    of their places* largest. That is a 2 x 2 problem: no array of pairs is made.

    Raises:
        ValueError: the groups differ in number, or a map and its profiles differ in units.
    """
    own, other = checked(profiles), checked(onto_profiles)
    if own.shape[1] != other.shape[1]:
        raise ValueError(f"Both layers need profiles of the same groups; got {own.shape[1]} and {other.shape[1]}.")
    points, onto = placed(points, len(own)), placed(onto, len(other))
    by_group = (points - points.mean(0)).T @ vectors(own, "cosine")
    onto_by_group = (onto - onto.mean(0)).T @ vectors(other, "cosine")
    return _turned(points, onto, by_group @ onto_by_group.T, square)


def _turned(points: Array, onto: Array, together: Array, square: bool) -> Array:
    """Apply the orthogonal matrix, or the best of the square's eight symmetries, that goes best with `together`."""
    if square:
        quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
        turns = [np.linalg.matrix_power(quarter, times) for times in range(4)]
        turns += [np.diag([1.0, -1.0]) @ turn for turn in turns]
        best = max(turns, key=lambda turn: float((turn * together).sum()))
    else:
        left, _, right = np.linalg.svd(together)
        best = left @ right
    return (points - points.mean(0)) @ best + onto.mean(0)
