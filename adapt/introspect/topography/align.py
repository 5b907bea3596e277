"""Rotate or mirror a map onto another one, in closed form (orthogonal Procrustes; Schönemann 1966).

A layout has no up and no left. Two maps, of two layers or of one layer before and after, can only be compared by eye if
similar units are on the same side of both. To see only the change of the units' responses, draw the new profiles
on the old map: the same points with other profiles.
"""

import numpy as np
from numpy.typing import ArrayLike

from adapt.introspect.topography.triangles import placed
from adapt.introspect.topography.vectors import Array, checked, vectors


def procrustes(points: ArrayLike, onto: ArrayLike, square: bool = False) -> Array:
    """Rotate or mirror a map `(units, 2)` onto another map of the same units, with the least squared distance.

    The result has the centre of the other map, but its own size. `square` allows only quarter turns and their mirror
    images, which keep a grid a grid.

    Raises:
        ValueError: The numbers of units differ.
    """
    onto = placed(onto)
    points = placed(points, len(onto))
    return _turned(points, onto, (points - points.mean(0)).T @ (onto - onto.mean(0)), square)


def align_layers(
    points: ArrayLike, profiles: ArrayLike, onto: ArrayLike, onto_profiles: ArrayLike, square: bool = False
) -> Array:
    """Rotate or mirror the map of a layer onto that of another one, so that similar units are on the same side.

    It maximises the sum over all pairs of units of the cosine of their profiles times the inner product of their
    places. This is a 2 x 2 problem; no array of pairs is made.

    Args:
        points: The map to align, `(units, 2)`.
        profiles: Its profiles, `(units, groups)`.
        onto: The other map, `(other units, 2)`.
        onto_profiles: Its profiles for the same groups, `(other units, groups)`.
        square: Allow only quarter turns and their mirror images.

    Raises:
        ValueError: The numbers of groups differ, or a map and its profiles have different numbers of units.
    """
    values, other = checked(profiles), checked(onto_profiles)
    if values.shape[1] != other.shape[1]:
        raise ValueError(f"Both layers need profiles of the same groups; got {values.shape[1]} and {other.shape[1]}.")
    points, onto = placed(points, len(values)), placed(onto, len(other))
    by_group = (points - points.mean(0)).T @ vectors(values, "cosine")
    onto_by_group = (onto - onto.mean(0)).T @ vectors(other, "cosine")
    return _turned(points, onto, by_group @ onto_by_group.T, square)


def _turned(points: Array, onto: Array, products: Array, square: bool) -> Array:
    """Apply the orthogonal matrix with the largest inner product with `products`.

    With `square`, only the eight symmetries of a square are considered.
    """
    if square:
        quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
        turns = [np.linalg.matrix_power(quarter, times) for times in range(4)]
        turns += [np.diag([1.0, -1.0]) @ turn for turn in turns]
        best = max(turns, key=lambda turn: float((turn * products).sum()))
    else:
        left, _, right = np.linalg.svd(products)
        best = left @ right
    return (points - points.mean(0)) @ best + onto.mean(0)
