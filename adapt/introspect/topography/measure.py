"""`measure=topography`: topographic maps of the layers, of one model or of two beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from adapt.checks import check_counts
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.profiles.groups import fitting_keys, groupings
from adapt.introspect.profiles.read import read_profiles
from adapt.introspect.reading import examples_of, sites_named, sites_of_both
from adapt.introspect.topography.cells import cells_of_model
from adapt.introspect.topography.draw_maps import draw_maps
from adapt.introspect.topography.layouts import LAYOUTS
from adapt.introspect.topography.maps import TopographicMap
from adapt.introspect.topography.quality import quality
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded

LEARNED = "learned"


def topography(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    groups: str | None = None,
    against: str | None = None,
    layout: str = "sorted_grid",
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
    most: int = 40,
    least: int = 20,
    seed: int = 0,
) -> "MeasuredMaps":
    """Lay out the neurons at `sites` by their profiles over `groups` (None: the first key that fits the data).

    `layout` is one of `adapt.introspect.topography.layouts.LAYOUTS`, or "learned": the grids that the model, or the one
    that it is drawn `against`, was laid out on while it trained (`topographic=grid`), at the sites that have one. What
    the model `against` does (a run that came of this one) is drawn in the same places. Each layer's map is turned onto
    that of the layer below, but for learned ones.

    Raises:
        InputError: there is no such site, part, key, layout or model, or fewer than two groups of `least` steps.
    """
    if layout not in LAYOUTS and layout != LEARNED:
        raise InputError(f"measure.layout must be one of {', '.join((*LAYOUTS, LEARNED))}, got {layout!r}.")
    check_counts(1, most=most, least=least)
    check_counts(0, seed=seed)
    model = loaded.model
    places = sites_named(model, sites, part)
    chosen, sets = examples_of(model, splits, examples)
    if groups is not None and not isinstance(groups, str):
        raise InputError(f"measure.groups is one key here, such as letter or accent; got {groups!r}.")
    key = groups or fitting_keys(model, chosen, sets)[0]
    if against is not None and key == "letter":  # by what is said: the two models write other letters
        key = "aligned_letter"
    models, cells = [model], cells_of_model(loaded.header, loaded.reference) if layout == LEARNED else {}
    if against is not None:
        other = load_model(against)
        models.append(other.model)
        places = sites_of_both(places, models[1], against)
        if layout == LEARNED:
            cells = cells or cells_of_model(other.header, against)
    if layout == LEARNED:
        places = [site for site in places if len(cells.get(site.name, ())) == site.units]
        if not places:
            there = f"It has them at {', '.join(cells)}." if cells else "Lay it out while it trains: topographic=grid."
            raise InputError(f"measure.layout=learned: no grids were learned at these sites. {there}")
    # Each by its own output units: a rebuilt alphabet has others.
    made = [groupings(one, chosen, [key], sets, most) for one in models]
    read = [read_profiles(one, chosen, loader, own, places).pooled() for one, own in zip(models, made, strict=True)]
    return MeasuredMaps(key, len(chosen), tuple(draw_maps(read, key, layout, least, seed, cells)), against, layout)


@dataclass(frozen=True)
class MeasuredMaps:
    """Maps of layers, from `examples` examples."""

    key: str
    examples: int
    maps: tuple[TopographicMap, ...]
    against: str | None
    layout: str = "sorted_grid"

    @cached_property
    def quality(self) -> dict[str, dict[str, float | None]]:
        """By site, the figures of its map (`adapt.introspect.topography.quality`); None where units are too few."""
        found = {}
        for own in self.maps:
            said = asdict(quality(own.points, own.profiles))
            del said["morans"]
            found[own.name] = {name: value if isfinite(value) else None for name, value in said.items()}
        return found

    @property
    def summary(self) -> Mapping[str, Any]:
        return {
            "groups": self.key, "examples": self.examples, "against": self.against, "layout": self.layout,
            "quality": self.quality,
        }  # fmt: skip

    @property
    def told(self) -> str:
        how = "on the grids that were learned, drawn" if self.layout == LEARNED else "laid out"
        units = sum(len(own.points) for own in self.maps)
        said = f"{units:,} neurons at {len(self.maps)} sites, {how} by {self.key}."
        known = {name: own["moran"] for name, own in self.quality.items() if own["moran"] is not None}
        if known:
            best = max(known, key=known.__getitem__)
            said += f" What neighbours do is most alike at '{best}' (Moran's I {known[best]:.2f})."
        return said

    def write(self, folder: Path, title: str, config: str, provenance: Mapping[str, Any]) -> list[Path]:
        from adapt.report.maps import write_maps

        page = folder / "topography.html"
        files = [folder / "maps" / f"{own.name}.safetensors" for own in self.maps]
        for path, own in zip(files, self.maps, strict=True):
            own.save(path, **provenance)
        write_maps(page, self.maps, title, self.told, "activation", config)
        return [page, *files]
