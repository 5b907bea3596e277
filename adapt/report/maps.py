"""Topographic maps on a page: a picture for each group, or three of it (before, after, difference), layer by layer.

`map_section` is a section for another page, `write_maps` a page of its own. Pictures are PNG files within the page, so
that its policy must allow `img-src data:`.
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
    from adapt.introspect.topography.vectors import Array

SMALLEST, LARGEST = 64, 112  # spots across a picture, of which two are a unit's where that is enough
MOST_GROUPS = 60
MOST_CHANGED = 16
SHOWN = 6  # groups of a layer before and after that are seen at once; the others are unfolded


@dataclass(frozen=True)
class _Group:
    """A group's pictures, and in words which units respond most (before) or how far they changed."""

    name: str
    pictures: list[Markup]
    said: str


@dataclass(frozen=True)
class _Layer:
    name: str
    units: int
    groups: list[_Group]
    shown: int
    left_out: int
    end: str  # of the scale
    quality: MapQuality
    after: MapQuality | None


def write_maps(
    path: Path | str,
    maps: Sequence[TopographicMap],
    title: str,
    summary: str,
    value: str = "activation",
    config: str = "",
) -> None:
    """Write a page of these maps to `path`, whole or not at all; `value` names what a profile holds."""
    page = environment().get_template("maps.html.j2").render(
        title=title, summary=summary, config=config, section=map_section(maps, value)
    )  # fmt: skip
    write_text(path, page)


def map_section(
    maps: Sequence[TopographicMap], value: str = "activation", sides: tuple[str, str] = ("before", "after")
) -> Markup:
    """The maps, a key, and how to read them, for someone who has never seen one: a `<section>`.

    Where a map holds what its units do after an adaptation, each group has its picture before, after, and of the
    difference, on one scale, the most changed groups first; else groups that the units tell least apart are neighbours.
    `sides` are other words for before and after, where a map holds two sets of people.

    Raises:
        ValueError: there is no map.
    """
    if not maps:
        raise ValueError("There is no map to draw.")
    layers = [_layer(each, sides) for each in maps]
    return Markup(
        environment()
        .get_template("maps_section.html.j2")
        .render(
            layers=layers,
            value=value,
            scale=_picture(np.arange(2 * LEVELS + 1)[None], "", "ramp"),
            example=_example(maps[0]),
            counted=formatting.counted,
            figure=_figure,
            sides=sides,
            adapted=sides == ("before", "after"),
        )
    )


def map_picture(drawn: TopographicMap) -> tuple[bytes, list[str]]:
    """One PNG of a map, before, after and difference, and the groups that its rows are of: those that changed most.

    Raises:
        ValueError: it is of one model.
    """
    if drawn.after is None:
        raise ValueError(f"The map of '{drawn.name}' is of one model; there is no before and after.")
    shown = np.argsort(-np.linalg.norm(drawn.after - drawn.profiles, axis=0), kind="stable")[:SHOWN]
    end = limit(drawn.profiles, drawn.after)
    canvas = Canvas(drawn.points, LARGEST)
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
    size = int(np.clip(2 * math.sqrt(len(drawn.points)), SMALLEST, LARGEST))
    canvas, after = Canvas(drawn.points, size), drawn.after
    if after is None:
        shown, said = _by_likeness(drawn.profiles)[:MOST_GROUPS], _most_active(drawn.profiles)
        stacks = {"": drawn.profiles}
    else:
        change = np.linalg.norm(after - drawn.profiles, axis=0)
        shown = np.argsort(-change, kind="stable")[:MOST_CHANGED]
        # Not of the group's own length: of one that the layer hardly responds to, any change is large.
        usual = np.sqrt(np.square(drawn.profiles).sum(0).mean())
        word = "changed" if sides == ("before", "after") else "differs"
        said = [f"{word} by {100 * value / usual:.0f} %" if usual else f"silent {sides[0]}" for value in change]
        stacks = {sides[0]: drawn.profiles, sides[1]: after, "difference": after - drawn.profiles}
    end = limit(*(stacks[when] for when in stacks if when != "difference"))
    images = {when: shades(canvas.images(values), end) for when, values in stacks.items()}
    groups = []
    for group in shown:
        name = drawn.groups[group]
        pictures = [_picture(levels[group], f"{drawn.name}, {name} {when}".rstrip()) for when, levels in images.items()]
        groups.append(_Group(name, pictures, said[group]))
    return _Layer(
        name=drawn.name,
        units=len(drawn.points),
        groups=groups,
        shown=len(groups) if after is None else SHOWN,
        left_out=len(drawn.groups) - len(groups),
        end=f"{end:.2g}",
        quality=quality(drawn.points, drawn.profiles),
        after=None if after is None else quality(drawn.points, after),
    )


def _by_likeness(profiles: Array) -> np.ndarray:
    """Groups in the order of a dendrogram, as in the papers: average linkage of cosine distances, best leaf order."""
    groups = profiles.shape[1]
    if groups < 3:
        return np.arange(groups)
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    from adapt.introspect.topography.vectors import cosine_distances

    apart = squareform(cosine_distances(profiles.T), checks=False)
    return leaves_list(linkage(apart, "average", optimal_ordering=True))


def _most_active(profiles: Array, most: int = 3) -> list[str]:
    best = np.argsort(-profiles, axis=0, kind="stable")[:most].T
    return [", ".join(map(str, units)) for units in best.tolist()]


def _picture(levels: np.ndarray, label: str, style: str = "map") -> Markup:
    return Markup('<img class="{}" alt="{}" src="{}">').format(style, label, data_url(levels, palette()))


def _example(drawn: TopographicMap) -> Markup:
    """The group that one unit responds most to, large, with a dot for each unit and rings around the most active."""
    group = int(np.abs(drawn.profiles).max(0).argmax())
    (image,) = Canvas(drawn.points, LARGEST).images(drawn.profiles[:, [group]])
    picture = _picture(shades(image, limit(drawn.profiles)), f"{drawn.name}, {drawn.groups[group]}")
    places = framed(drawn.points)  # as the canvas does
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
    ).format(picture, Markup("").join(dots), drawn.name, drawn.groups[group])


def _figure(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else formatting.UNKNOWN
