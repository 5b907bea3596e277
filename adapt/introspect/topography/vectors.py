"""What it is for two units to respond alike: the distances that maps are made of."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Distance = Literal["half", "cosine", "euclidean"]
Array = NDArray[np.float64]


def checked(profiles: ArrayLike) -> Array:
    """The profiles as float64, `(units, groups)`.

    Raises:
        ValueError: they are not two-dimensional, there is no unit or no group, or a number is not finite.
    """
    values = np.asarray(profiles, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"Profiles must be (units, groups), with one of each at least; got the shape {values.shape}.")
    if not np.isfinite(values).all():
        units = np.flatnonzero(~np.isfinite(values).all(1))
        raise ValueError(
            f"Profiles must be finite; {len(units)} of {len(values)} units have NaN or infinite values, the first of "
            f"them unit {units[0]}. A group without an example gives NaN: leave it out."
        )
    return values


def vectors(profiles: ArrayLike, distance: Distance = "half") -> Array:
    """Vectors, `(units, groups)`, whose Euclidean distances say how unlike two units respond.

    "cosine" divides a profile by its length, so that only its shape counts; "euclidean" leaves it, so that mostly its
    size does. "half" divides by the square root of the length: both count, and maps are then smooth in what is drawn as
    well as in what it is called. A dead unit, whose profile is zero, is at the origin, near the weak ones.

    Raises:
        ValueError: the profiles cannot be laid out (see `checked`), or there is no such distance.
    """
    if distance not in ("half", "cosine", "euclidean"):
        raise ValueError(f"distance must be 'half', 'cosine' or 'euclidean'; got {distance!r}.")
    values = checked(profiles)
    largest = np.abs(values).max()
    if largest == 0:
        return values
    values = values / largest  # so that lengths neither overflow nor vanish
    if distance == "euclidean":
        return values
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    power = 1.0 if distance == "cosine" else 0.5
    return np.divide(values, lengths**power, out=np.zeros_like(values), where=lengths > 1e-12)


def cosine_distances(profiles: ArrayLike) -> Array:
    """One minus the cosine of each two profiles, `(units, units)`: 1 from a dead unit to others, 0 between dead ones.

    Memory is that of one float64 matrix of this shape: 32 MB at 2,000 units.
    """
    directions = vectors(profiles, "cosine")
    distances = 1.0 - directions @ directions.T
    dead = ~directions.any(1)
    distances[np.ix_(dead, dead)] = 0.0
    np.fill_diagonal(distances, 0.0)
    return distances.clip(0.0, 2.0)
