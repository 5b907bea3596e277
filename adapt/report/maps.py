"""Topographic maps on a page, layer by layer: an image for each group, or three (before, after, difference).

`write_maps` writes a page, `map_section` returns a section for another page. Images are embedded PNG files, so the
content security policy of the page must allow `img-src data:`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from adapt import formatting
from adapt.files import write_text
from adapt.introspect.topography.draw import LEVELS, NOTHING, Canvas, limit, palette, shades
from adapt.introspect.topography.grid import framed
from adapt.introspect.topography.quality import MapQuality, quality
from adapt.report.png import data_url, png
from adapt.report.template import environment

if TYPE_CHECKING:
    from adapt.introspect.topography.maps import TopographicMap
    from adapt.introspect.topography.result import MapsResult
    from adapt.introspect.topography.vectors import Array

MIN_SIZE, MAX_SIZE = 64, 112  # bounds of an image's width in pixels; between them, two pixels per unit
MAX_GROUPS = 60
MAX_CHANGED = 16
SHOWN = 6  # groups of a layer shown before the reader expands it, in maps with before and after


@dataclass(frozen=True)
class _Group:
    """The images of a group. `caption` names the most active units, or the size of the change."""

    name: str
    images: list[Markup]
    caption: str


@dataclass(frozen=True)
class _Layer:
    name: str
    units: int
    groups: list[_Group]
    shown: int
    left_out: int
    scale_end: str
    quality: MapQuality
    after: MapQuality | None


def write_maps(path: Path | str, result: MapsResult, title: str, config: str = "") -> None:
    """Write a page of maps, atomically.

    Args:
        path: The HTML file.
        result: The result to draw.
        title: The heading of the page.
        config: The configuration of the run as YAML, shown at the end of the page.
    """
    template = environment().get_template("maps.html.j2")
    section = map_section(result.maps)
    write_text(path, template.render(title=title, summary=result.summary, config=config, section=section))


def map_section(
    maps: Sequence[TopographicMap],
    value: str = "activation",
    sides: tuple[str, str] = ("before", "after"),
    conclusion: str = "",
) -> Markup:
    """Return a `<section>` with maps, their colour scale, and an explanation of how to read them.

    If a map also has profiles after an adaptation, each group has images before, after and of the difference, on one
    scale, and the most changed groups come first. Otherwise, similar groups are next to each other.

    Args:
        maps: The maps.
        value: What the text calls the values of the profiles.
        sides: The names of before and after, which differ for maps that compare two groups of speakers.
        conclusion: A sentence that opens the section.

    Raises:
        ValueError: There is no map.
    """
    if not maps:
        raise ValueError("There is no map to draw. Give at least one.")
    section = (
        environment()
        .get_template("maps_section.html.j2")
        .render(
            layers=[_layer(each, sides) for each in _most_changed_first(maps)],
            conclusion=conclusion,
            value=value,
            scale=_image(np.arange(2 * LEVELS + 1)[None], "", "ramp"),
            example=_example(maps[0]),
            counted=formatting.counted,
            figure=_figure,
            sides=sides,
            adapted=sides == ("before", "after"),
        )
    )
    return Markup(section)


def _most_changed_first(maps: Sequence[TopographicMap]) -> list[TopographicMap]:
    """Sort maps by the change of the group that changed most; maps of one model keep their order."""
    return sorted(maps, key=lambda one: 0.0 if one.after is None else -float(relative_change(one).max()))


def relative_change(drawn: TopographicMap) -> Array:
    """Return how much the profile of each group changed, relative to the layer's typical response.

    Changes are relative to all groups, because any change is large relative to a group that hardly responds. A layer
    that was silent has a change of 0.

    Raises:
        ValueError: The map has no profiles after an adaptation.
    """
    if drawn.after is None:
        raise ValueError(f"The map of '{drawn.name}' is of one model. Give one with profiles before and after.")
    change = np.linalg.norm(drawn.after - drawn.profiles, axis=0)
    typical = np.sqrt(np.square(drawn.profiles).sum(0).mean())
    return change / typical if typical else np.zeros_like(change)


def map_picture(drawn: TopographicMap) -> tuple[bytes, list[str]]:
    """Return a map as PNG, with a row (before, after, difference) for each of the most changed groups, and their names.

    Raises:
        ValueError: The map has no profiles after an adaptation.
    """
    if drawn.after is None:
        raise ValueError(f"The map of '{drawn.name}' is of one model. Give one with profiles before and after.")
    shown = np.argsort(-np.linalg.norm(drawn.after - drawn.profiles, axis=0), kind="stable")[:SHOWN]
    end = limit(drawn.profiles, drawn.after)
    canvas = Canvas(drawn.points, MAX_SIZE)
    columns = [
        shades(canvas.images(values[:, shown]), end)
        for values in (drawn.profiles, drawn.after, drawn.after - drawn.profiles)
    ]
    rows = [
        np.concatenate([np.pad(column[row], 3, constant_values=NOTHING) for column in columns], 1)
        for row in range(len(shown))
    ]
    return png(np.concatenate(rows), palette()), [drawn.groups[group] for group in shown]


def _layer(drawn: TopographicMap, sides: tuple[str, str]) -> _Layer:
    size = int(np.clip(2 * math.sqrt(len(drawn.points)), MIN_SIZE, MAX_SIZE))
    canvas, after = Canvas(drawn.points, size), drawn.after
    if after is None:
        shown, captions = _by_similarity(drawn.profiles)[:MAX_GROUPS], _most_active(drawn.profiles)
        stacks = {"": drawn.profiles}
    else:
        change = np.linalg.norm(after - drawn.profiles, axis=0)
        shown = np.argsort(-change, kind="stable")[:MAX_CHANGED]
        verb = "changed" if sides == ("before", "after") else "differs"
        captions = [f"{verb} by {100 * size:.0f} %" for size in relative_change(drawn)]
        if not drawn.profiles.any():
            captions = [f"silent {sides[0]}"] * len(captions)
        stacks = {sides[0]: drawn.profiles, sides[1]: after, "difference": after - drawn.profiles}
    end = limit(*(stacks[when] for when in stacks if when != "difference"))
    images = {when: shades(canvas.images(values), end) for when, values in stacks.items()}
    groups = []
    for group in shown:
        name = drawn.groups[group]
        drawings = [_image(levels[group], f"{drawn.name}, {name} {when}".rstrip()) for when, levels in images.items()]
        groups.append(_Group(name, drawings, captions[group]))
    return _Layer(
        name=drawn.name,
        units=len(drawn.points),
        groups=groups,
        shown=len(groups) if after is None else SHOWN,
        left_out=len(drawn.groups) - len(groups),
        scale_end=f"{end:.2g}",
        quality=quality(drawn.points, drawn.profiles),
        after=None if after is None else quality(drawn.points, after),
    )


def _by_similarity(profiles: Array) -> np.ndarray:
    """Order groups as the leaves of a dendrogram: average linkage of cosine distances with optimal leaf ordering."""
    groups = profiles.shape[1]
    if groups < 3:
        return np.arange(groups)
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    from adapt.introspect.topography.vectors import cosine_distances

    distances = squareform(cosine_distances(profiles.T), checks=False)
    return leaves_list(linkage(distances, "average", optimal_ordering=True))


def _most_active(profiles: Array, count: int = 3) -> list[str]:
    best = np.argsort(-profiles, axis=0, kind="stable")[:count].T
    return [", ".join(map(str, units)) for units in best.tolist()]


def _image(levels: np.ndarray, label: str, style: str = "map") -> Markup:
    return Markup('<img class="{}" alt="{}" src="{}">').format(style, label, data_url(levels, palette()))


def _example(drawn: TopographicMap) -> Markup:
    """Return a large image of the group to which a unit responds most strongly.

    Units are dots, and the three most active ones have rings.
    """
    group = int(np.abs(drawn.profiles).max(0).argmax())
    (values,) = Canvas(drawn.points, MAX_SIZE).images(drawn.profiles[:, [group]])
    image = _image(shades(values, limit(drawn.profiles)), f"{drawn.name}, {drawn.groups[group]}")
    places = framed(drawn.points)  # the same positions as on the canvas
    radius = min(1.2, 22 / max(1, len(places)) ** 0.5)
    best = set(np.argsort(-drawn.profiles[:, group], kind="stable")[:3].tolist())
    dots = [
        Markup('<circle{} cx="{:.1f}" cy="{:.1f}" r="{:.2g}"/>').format(
            Markup(' class="most"') if unit in best else "",
            100 * x,
            100 - 100 * y,
            2.6 if unit in best else radius,
        )
        for unit, (x, y) in enumerate(places.tolist())
    ]
    return Markup(
        '<figure class="example"><div>{}<svg viewBox="0 0 100 100" aria-hidden="true">{}</svg></div>'
        "<figcaption><code>{}</code>, <b>{}</b></figcaption></figure>"
    ).format(image, Markup("").join(dots), drawn.name, drawn.groups[group])


def _figure(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else formatting.UNKNOWN
