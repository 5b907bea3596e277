"""The map of a layer: the places of its units and their profiles, also after an adaptation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike

from adapt.introspect.topography.triangles import placed
from adapt.introspect.topography.vectors import Array, checked
from interventions.files import FileError, read_tensors, write_tensors


@dataclass(frozen=True, init=False, eq=False)
class TopographicMap:
    """The map of a layer. Profiles before and after an adaptation are drawn in the same places.

    Args:
        name: The name of the layer.
        groups: The names of the groups.
        points: The place of each unit, `(units, 2)`.
        profiles: The profile of each unit, `(units, groups)`.
        after: The profiles of the same units in an adapted model, `(units, groups)`; None for one model.

    Raises:
        ValueError: The shapes or the number of names do not match, or a number is not finite.
    """

    name: str
    groups: tuple[str, ...]
    points: Array
    profiles: Array
    after: Array | None

    def __init__(
        self, name: str, groups: Sequence[str], points: ArrayLike, profiles: ArrayLike, after: ArrayLike | None = None
    ) -> None:
        before = checked(profiles)
        names = tuple(str(group) for group in groups)
        then = None if after is None else checked(after)
        if then is not None and then.shape != before.shape:
            raise ValueError(f"{name}: profiles are {before.shape} before and {then.shape} after. Give the same units.")
        if len(names) != before.shape[1]:
            raise ValueError(f"{name}: got profiles of {before.shape[1]} groups and the names of {len(names)}.")
        values = (name, names, placed(points, len(before)), before, then)
        for key, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, key, value)

    def save(self, path: Path | str, **provenance: Any) -> None:
        """Write one safetensors file; `provenance` is added to its header as JSON."""
        arrays = {"points": self.points, "profiles": self.profiles, "after": self.after}
        tensors = {key: torch.from_numpy(values) for key, values in arrays.items() if values is not None}
        write_tensors(path, "a map", {"name": self.name, "groups": list(self.groups), **provenance}, tensors)

    @classmethod
    def load(cls, path: Path | str) -> "TopographicMap":
        """Read a file that `save` wrote. Raises FileError if the file is damaged or holds something else."""
        header, tensors = read_tensors(path, "a map")
        try:
            arrays = {key: values.numpy() for key, values in tensors.items()}
            return cls(header["name"], header["groups"], arrays["points"], arrays["profiles"], arrays.get("after"))
        except (KeyError, ValueError) as error:
            raise FileError(f"'{path}' does not hold a complete map ({error}). Make it again.") from None
