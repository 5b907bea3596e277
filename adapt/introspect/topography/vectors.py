"""The similarity of units: the distances of profiles that maps preserve."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Distance = Literal["half", "cosine", "euclidean"]
Array = NDArray[np.float64]


def checked(profiles: ArrayLike) -> Array:
    """Return profiles as float64, `(units, groups)`.

    Raises:
        ValueError: They are not two-dimensional, have no unit or no group, or a number is not finite.
    """
    values = np.asarray(profiles, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"Profiles must be (units, groups), with at least one of each; got the shape {values.shape}.")
    if not np.isfinite(values).all():
        units = np.flatnonzero(~np.isfinite(values).all(1))
        raise ValueError(
            f"Profiles must be finite; {len(units)} of {len(values)} units have NaN or infinite values, the first is "
            f"unit {units[0]}. A group without examples has NaN: leave it out."
        )
    return values


def vectors(profiles: ArrayLike, distance: Distance = "half") -> Array:
    """Return vectors `(units, groups)` whose Euclidean distances measure how differently two units respond.

    "cosine" divides each profile by its length, so only its direction counts. "euclidean" keeps the length, which
    then counts most. "half" divides by the square root of the length: both count, and maps are smooth in direction and
    in activation. A dead unit, with a profile of zeros, is at the origin, near weak units.

    Raises:
        ValueError: The profiles cannot be laid out (see `checked`), or the distance is unknown.
    """
    if distance not in ("half", "cosine", "euclidean"):
        raise ValueError(f"distance must be 'half', 'cosine' or 'euclidean'; got {distance!r}.")
    values = checked(profiles)
    largest = np.abs(values).max()
    if largest == 0:
        return values
    values = values / largest  # avoids overflow and underflow of lengths
    if distance == "euclidean":
        return values
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    power = 1.0 if distance == "cosine" else 0.5
    return np.divide(values, lengths**power, out=np.zeros_like(values), where=lengths > 1e-12)


def cosine_distances(profiles: ArrayLike) -> Array:
    """Return one minus the cosine of all pairs of profiles, `(units, units)`.

    A dead unit has distance 1 from other units, and 0 from other dead units. Memory is that of the result, 32 MB for
    2,000 units.
    """
    directions = vectors(profiles, "cosine")
    distances = 1.0 - directions @ directions.T
    dead = ~directions.any(1)
    distances[np.ix_(dead, dead)] = 0.0
    np.fill_diagonal(distances, 0.0)
    return distances.clip(0.0, 2.0)
