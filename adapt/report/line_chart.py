"""Line charts as inline SVG: training curves, and metrics over settings or layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from adapt.report.figures import axis


@dataclass(frozen=True)
class Curve:
    """One line of `line_chart`: `values` by x value, such as the epoch. With `in_legend`, the legend names the line."""

    name: str
    style: str
    values: Mapping[float, float]
    in_legend: bool = True


def history_curve(name: str, style: str, history: Sequence[Mapping[str, float]], key: str, scale: float = 1.0) -> Curve:
    """Return the curve of `key` over the epochs of a training history: its finite values, multiplied by `scale`."""
    values = {int(row["epoch"]): scale * row[key] for row in history if key in row}
    return Curve(name, style, {epoch: value for epoch, value in values.items() if math.isfinite(value)})


def line_chart(
    title: str, lines: Sequence[Curve], unit: str = "", x_label: str = "epoch", x_names: Sequence[str] = ()
) -> Markup | None:
    """Plot lines over epochs, or over the quantity that `x_label` names.

    Args:
        title: The title, for screen readers.
        lines: The lines; those without values are left out.
        unit: The unit of the values, appended to each number.
        x_label: The label of the horizontal axis.
        x_names: The names of the x values 0, 1, 2, ..., written instead of the numbers, at an angle.

    Returns:
        The SVG element, or None if no line has a value.
    """
    lines = [line for line in lines if line.values]
    if not lines:
        return None
    left, right, top, bottom = 46, 468, 34, 206
    values = [value for line in lines for value in line.values.values()]
    places = sorted({place for line in lines for place in line.values})
    vertical = axis(min(0.0, *values), max(values))
    first, span = places[0], places[-1] - places[0]
    if x_names:
        marks = places
    elif all(place == int(place) for place in places):
        marks = [float(mark) for mark in range(int(first), int(first + span) + 1, max(1, math.ceil(span / 9)))]
    else:
        marks = [mark for mark in axis(first, first + span, max_ticks=9).ticks if first <= mark <= first + span]

    def x(place: float) -> float:
        return left + 8 + (right - left - 16) * ((place - first) / span if span else 0.5)

    def y(value: float) -> float:
        return bottom - (bottom - top) * vertical.place(value)

    parts = []
    for tick in vertical.ticks:
        text = f"{round(tick, 6):g}{unit}"
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>'
                '<text class="y" x="{}" y="{:.1f}">{}</text>'
            ).format(left, right, left - 6, y(tick) + 4, text, y=y(tick))
        )
    parts += _x_labels({x(mark): mark for mark in marks}, bottom + 18, x_names)
    middle = (left + right) / 2
    if not x_names:
        parts.append(Markup('<text class="x" x="{}" y="{}">{}</text>').format(middle, bottom + 34, x_label))
    named = [line for line in lines if line.in_legend]
    spacing = min(150, (right - left) // max(1, len(named)))
    for line in lines:
        dots = [(x(place), y(value), place, value) for place, value in sorted(line.values.items())]
        drawn = [
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"><title>{} {}: {}</title></circle>').format(
                a, b, line.name, x_names[int(place)] if x_names else f"{x_label} {place:g}", f"{value:.4g}{unit}"
            )
            for a, b, place, value in dots
        ]
        if line.in_legend:
            key = left + 8 + spacing * named.index(line)
            drawn.append(
                Markup(
                    '<line x1="{}" x2="{}" y1="14" y2="14"/><circle cx="{}" cy="14" r="3"/>'
                    '<text x="{}" y="18">{}</text>'
                ).format(key, key + 24, key + 12, key + 30, line.name)
            )
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b, _, _ in dots)
        parts.append(
            Markup('<g class="curve {}"><polyline points="{}"/>{}</g>').format(
                line.style, points, Markup("").join(drawn)
            )
        )
    height = 246 + (6 * max(map(len, x_names)) if x_names else 0)
    return Markup('<svg class="curves" viewBox="0 0 480 {}" role="img"><title>{}</title>{}</svg>').format(
        height, title, Markup("").join(parts)
    )


def _x_labels(marks: Mapping[float, float], y: float, names: Sequence[str]) -> list[Markup]:
    """Return the labels of the horizontal axis, given the value at each position: numbers, or upright names."""
    if names:
        label = '<text class="name" transform="translate({:.1f} {}) rotate(-90)">{}</text>'
        return [Markup(label).format(x + 4, y - 6, names[int(mark)]) for x, mark in marks.items()]
    return [
        Markup('<text class="x" x="{:.1f}" y="{}">{:g}</text>').format(x, y, round(mark, 9))
        for x, mark in marks.items()
    ]
