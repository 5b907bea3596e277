"""The result of `measure=topography`: a topographic map of each layer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from adapt.files import is_file, write_json
from adapt.introspect.stored import read_result
from adapt.introspect.topography.maps import TopographicMap
from adapt.introspect.topography.quality import quality

FORMAT = 2
LEARNED = "learned"


@dataclass(frozen=True)
class MapsResult:
    """Maps of layers.

    Args:
        key: The key of the groups.
        examples: The number of examples.
        maps: The maps.
        reference_model: The model whose profiles are drawn as `after`; None for maps of one model.
        layout: The name of the layout, or "learned".
    """

    key: str
    examples: int
    maps: tuple[TopographicMap, ...]
    reference_model: str | None = None
    layout: str = "sorted_grid"

    @cached_property
    def quality(self) -> dict[str, dict[str, float | None]]:
        """The figures of `MapQuality` by map, without `morans`; None instead of NaN."""
        figures = {}
        for each in self.maps:
            values = asdict(quality(each.points, each.profiles))
            del values["morans"]
            figures[each.name] = {name: value if isfinite(value) else None for name, value in values.items()}
        return figures

    @property
    def figures(self) -> Mapping[str, Any]:
        """The numbers for `metrics.json`."""
        return {
            "groups": self.key,
            "examples": self.examples,
            "reference_model": self.reference_model,
            "layout": self.layout,
            "quality": self.quality,
        }

    @property
    def summary(self) -> str:
        """The result in a sentence or two."""
        how = "drawn on their learned grids" if self.layout == LEARNED else "laid out"
        units = sum(len(each.points) for each in self.maps)
        text = f"{units:,} neurons at {len(self.maps)} sites, {how} by {self.key.replace('_', ' ')}."
        morans = {name: figures["moran"] for name, figures in self.quality.items()}
        known = {name: moran for name, moran in morans.items() if moran is not None}
        if known:
            best = max(known, key=lambda name: known[name])
            text += f" Neighbours are most similar at {best} (Moran's I {known[best]:.2f})."
        return text

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> list[Path]:
        """Write `topography.json` and a file for each map, and return the paths of the files."""
        table = folder / "topography.json"
        files = [folder / "maps" / f"{each.name}.safetensors" for each in self.maps]
        for path, each in zip(files, self.maps, strict=True):
            each.save(path, **provenance)
        write_json(table, {"format": FORMAT, **self.figures})
        return [table, *files]

    @classmethod
    def load(cls, folder: Path | str) -> "MapsResult":
        """Read what `save` wrote, also in version 1 of the format. Raises FileError if a file is damaged."""
        folder = Path(folder)
        table = folder / "topography.json"
        # Version 1 wrote these figures to `metrics.json` only.
        stored = read_result(table if is_file(table) else folder / "metrics.json", FORMAT)
        maps = tuple(TopographicMap.load(folder / "maps" / f"{name}.safetensors") for name in stored["quality"])
        reference = stored["against" if stored["format"] == 1 else "reference_model"]
        return cls(stored["groups"], stored["examples"], maps, reference, stored["layout"])
