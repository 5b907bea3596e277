"""One layer's map: where its units lie, and what each does for each group, also after an adaptation."""

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
    """A layer's `points`, `(units, 2)`, and `profiles`, `(units, groups)`; `after`, of the same shape, is what the same
    units do in an adapted model. Before and after are drawn in the same places, so that only what they do differs.

    Raises:
        ValueError: the shapes or the number of names do not agree, or a number is not finite.
    """

    name: str
    groups: tuple[str, ...]
    points: Array
    profiles: Array
    after: Array | None

    def __init__(
        self, name: str, groups: Sequence[str], points: ArrayLike, profiles: ArrayLike, after: ArrayLike | None = None
    ) -> None:
        own = checked(profiles)
        names = tuple(str(group) for group in groups)
        then = None if after is None else checked(after)
        if then is not None and then.shape != own.shape:
            raise ValueError(f"{name}: profiles are {own.shape} before and {then.shape} after. Give the same units.")
        if len(names) != own.shape[1]:
            raise ValueError(f"{name}: {own.shape[1]} groups have profiles, and {len(names)} have names.")
        held = (name, names, placed(points, len(own)), own, then)
        for key, value in zip(self.__dataclass_fields__, held, strict=True):
            object.__setattr__(self, key, value)

    def save(self, path: Path | str, **provenance: Any) -> None:
        """Write it to one safetensors file; `provenance` is what else its header says, as JSON."""
        held = {"points": self.points, "profiles": self.profiles, "after": self.after}
        tensors = {key: torch.from_numpy(values) for key, values in held.items() if values is not None}
        write_tensors(path, "a map", {"name": self.name, "groups": list(self.groups), **provenance}, tensors)

    @classmethod
    def load(cls, path: Path | str) -> "TopographicMap":
        """Read what `save` wrote. Raises FileError where the file is another or damaged."""
        header, tensors = read_tensors(path, "a map")
        try:
            held = {key: values.numpy() for key, values in tensors.items()}
            return cls(header["name"], header["groups"], held["points"], held["profiles"], held.get("after"))
        except (KeyError, ValueError) as error:
            raise FileError(f"'{path}' does not hold a whole map ({error}).") from None
