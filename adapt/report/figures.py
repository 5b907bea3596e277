"""The report's pictures, as inline SVG: intervals, learning curves, and the change of every neuron.

They hold no text that would shrink on a phone: rows stretch by percentages, and only the curves have letters in them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from adapt.formatting import amount, amount_range, relative

if TYPE_CHECKING:
    from adapt.metrics import Metric

UNITS_A_ROW = 128
# Upper bounds of the relative change of a neuron's weights. Fixed, not fitted to the data: the same shade means the
# same change in every layer and in every report.
BOUNDS = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
SHADES = ("#f9e3c8", "#f5c893", "#eda45a", "#d97f2b", "#b55a10", "#843b07", "#4a1e02")
IDENTICAL = "#dfe5ea"
_CELL, _PITCH, _ROW = 6, 7, 11  # of a neuron, in the picture's own units


@dataclass(frozen=True)
class Axis:
    """A scale from the first tick to the last."""

    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where on the axis a value lies: 0 at its start, 1 at its end."""
        return (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])


def axis(low: float, high: float, most: int = 6) -> Axis:
    """The roundest ticks around `low` and `high`, at most `most` of them."""
    if not high > low:
        high = low + 1.0
    unit = 10 ** math.floor(math.log10((high - low) / most))
    step = next(
        unit * factor
        for factor in (1, 2, 5, 10, 20, 50)
        if math.ceil(high / (unit * factor)) - math.floor(low / (unit * factor)) < most
    )
    first, last = math.floor(low / step), math.ceil(high / step)
    return Axis(tuple(step * k for k in range(first, last + 1)))


def metric_axis(results: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> Axis:
    """From 0 to the highest end of an interval in `results` (as `TextScores.as_dict` gives them), in what is shown."""
    ends = [(m.scale, (own[m.key], *own[f"{m.key}_interval"])) for own in results for m in metrics]
    return axis(0.0, max(round(scale * value, 9) for scale, values in ends for value in values))


def axis_labels(scale: Axis) -> Markup:
    """The head of a column of `interval_pair`s: its ticks."""
    labels = [
        Markup('<text x="{:.2f}%" y="11">{:g}</text>').format(100 * scale.place(tick), round(tick, 6))
        for tick in scale.ticks
    ]
    return Markup('<svg class="scale" width="100%" height="14" aria-hidden="true">{}</svg>').format(
        Markup("").join(labels)
    )


def interval_pair(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], metric: Metric, scale: Axis
) -> Markup:
    """Before (open circle, above) and after (full circle, below) with their 95 % intervals, on a shared scale."""

    def place(value: float) -> float:
        return 100 * scale.place(metric.scale * value)

    parts = [
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(100 * scale.place(tick))
        for tick in scale.ticks
    ]
    places = [place(own[metric.key]) for own in (before, after)]
    parts.append(Markup('<line class="link" x1="{:.2f}%" y1="7" x2="{:.2f}%" y2="17"/>').format(*places))
    for own, kind, middle, y in ((before, "before", places[0], 7), (after, "after", places[1], 17)):
        low, high = (place(end) for end in own[f"{metric.key}_interval"])
        parts.append(
            Markup(
                '<g class="{}"><line x1="{:.2f}%" x2="{:.2f}%" y1="{y}" y2="{y}"/>'
                '<circle cx="{:.2f}%" cy="{y}" r="4"/></g>'
            ).format(kind, low, high, middle, y=y)
        )
    label = f"{name}: " + ", ".join(
        f"{when} {amount(own[metric.key], metric)} ({amount_range(own[f'{metric.key}_interval'], metric)})"
        for when, own in (("before", before), ("after", after))
    )
    return Markup('<svg class="pair" width="100%" height="24" role="img"><title>{}</title>{}</svg>').format(
        label, Markup("").join(parts)
    )


def interval(name: str, own: Mapping[str, Any], metric: Metric, scale: Axis) -> Markup:
    """A metric (full circle) with its 95 % interval, on a shared scale."""
    places = (own[metric.key], *own[f"{metric.key}_interval"])
    middle, low, high = (100 * scale.place(metric.scale * value) for value in places)
    grid = [
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(100 * scale.place(tick))
        for tick in scale.ticks
    ]
    return Markup(
        '<svg class="pair" width="100%" height="24" role="img"><title>{}</title>{}<g class="after">'
        '<line x1="{:.2f}%" x2="{:.2f}%" y1="12" y2="12"/><circle cx="{:.2f}%" cy="12" r="4"/></g></svg>'
    ).format(f"{name}: {amount(own[metric.key], metric)}", Markup("").join(grid), low, high, middle)


def cause_row(name: str, cause: tuple[float, float], ends: tuple[float, float], metric: Metric, scale: Axis) -> Markup:
    """A part's change alone (open circle) and put back (full circle), each with a line from the model it was made of.

    `cause` is the metric alone and put back; `ends` are the models before and after, each a line from top to bottom.
    """
    alone, without = (100 * scale.place(metric.scale * value) for value in cause)
    before, after = (100 * scale.place(metric.scale * value) for value in ends)
    label = f"{name}: alone {amount(cause[0], metric)}, put back {amount(cause[1], metric)}"
    return Markup(
        '<svg class="pair" width="100%" height="24" role="img"><title>{label}</title>'
        '<line class="end" x1="{before:.2f}%" x2="{before:.2f}%" y2="100%"/>'
        '<line class="end" x1="{after:.2f}%" x2="{after:.2f}%" y2="100%"/>'
        '<g class="before"><line x1="{before:.2f}%" x2="{alone:.2f}%" y1="7" y2="7"/>'
        '<circle cx="{alone:.2f}%" cy="7" r="4"/></g>'
        '<g class="after"><line x1="{after:.2f}%" x2="{without:.2f}%" y1="17" y2="17"/>'
        '<circle cx="{without:.2f}%" cy="17" r="4"/></g></svg>'
    ).format(label=label, before=before, after=after, alone=alone, without=without)


@dataclass(frozen=True)
class Curve:
    """One line of `curves`: `values` by epoch, or by whatever was varied. `keyed`: it is named above the picture."""

    name: str
    style: str
    values: Mapping[float, float]
    keyed: bool = True


def curve(name: str, style: str, history: Sequence[Mapping[str, float]], key: str, scale: float = 1.0) -> Curve:
    """The finite values of `key` in a history, times `scale`."""
    found = {int(row["epoch"]): scale * row[key] for row in history if key in row}
    return Curve(name, style, {epoch: value for epoch, value in found.items() if math.isfinite(value)})


def curves(title: str, lines: Sequence[Curve], unit: str = "", along: str = "epoch") -> Markup | None:
    """Values over epochs, or `along` something else, one line each, `unit` behind each number.

    None where there is no value at all.
    """
    lines = [line for line in lines if line.values]
    if not lines:
        return None
    left, right, top, bottom = 46, 468, 34, 206
    values = [value for line in lines for value in line.values.values()]
    places = sorted({place for line in lines for place in line.values})
    down = axis(min(0.0, *values), max(values))
    first, span = places[0], places[-1] - places[0]
    if all(place == int(place) for place in places):
        marks = [float(mark) for mark in range(int(first), int(first + span) + 1, max(1, math.ceil(span / 9)))]
    else:
        marks = [mark for mark in axis(first, first + span, most=9).ticks if first <= mark <= first + span]

    def x(place: float) -> float:
        return left + 8 + (right - left - 16) * ((place - first) / span if span else 0.5)

    def y(value: float) -> float:
        return bottom - (bottom - top) * down.place(value)

    parts = []
    for tick in down.ticks:
        text = f"{round(tick, 6):g}{unit}"
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>'
                '<text class="y" x="{}" y="{:.1f}">{}</text>'
            ).format(left, right, left - 6, y(tick) + 4, text, y=y(tick))
        )
    parts += [
        Markup('<text class="x" x="{:.1f}" y="{}">{:g}</text>').format(x(mark), bottom + 18, round(mark, 9))
        for mark in marks
    ]
    middle = (left + right) / 2
    parts.append(Markup('<text class="x" x="{}" y="{}">{}</text>').format(middle, bottom + 34, along))
    keyed = [line for line in lines if line.keyed]
    apart = min(150, (right - left) // max(1, len(keyed)))
    for line in lines:
        dots = [(x(place), y(value), place, value) for place, value in sorted(line.values.items())]
        drawn = [
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"><title>{} {} {:g}: {}</title></circle>').format(
                a, b, line.name, along, place, f"{value:.4g}{unit}"
            )
            for a, b, place, value in dots
        ]
        if line.keyed:
            key = left + 8 + apart * keyed.index(line)
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
    return Markup('<svg class="curves" viewBox="0 0 480 246" role="img"><title>{}</title>{}</svg>').format(
        title, Markup("").join(parts)
    )


def bar(change: float, largest: float) -> Markup:
    """A bar as long as a layer's relative change is, compared with that of the most changed layer."""
    length = 100 * change / largest if math.isfinite(change) and largest > 0 else 0.0
    return Markup(
        '<svg class="bar" width="100%" height="12" aria-hidden="true"><rect width="100%" height="12"/>'
        '<rect class="value" width="{:.1f}%" height="12"/></svg>'
    ).format(length)


def neuron_strip(name: str, neurons: Sequence[float | None]) -> Markup:
    """A cell per neuron, in rows of `UNITS_A_ROW`: its shade is its relative change, a cross says it is new."""
    rows = -(-len(neurons) // UNITS_A_ROW)
    by_shade: dict[int, list[int]] = {}
    for unit, change in enumerate(neurons):
        by_shade.setdefault(_shade(change), []).append(unit)
    drawn = [
        Markup('<path class="new" d="{}"/>').format(
            "".join(f"M{x + 1} {y + 1}l4 7m0-7l-4 7" for x, y in _corners(units))
        )
        if shade == _NEW
        else Markup('<path stroke="{}" d="{}"/>').format((IDENTICAL, *SHADES)[shade], _cells(units))
        for shade, units in sorted(by_shade.items())
    ]
    return Markup(
        '<svg class="strip" viewBox="0 0 {} {}" role="img" stroke-width="{}"><title>{}</title>{}</svg>'
    ).format(UNITS_A_ROW * _PITCH, rows * _ROW, _ROW - 1, f"{name}: {describe(neurons)}", Markup("").join(drawn))


def describe(neurons: Sequence[float | None], most: int = 3) -> str:
    """A layer's neurons in words: how many, how far the middle one moved, and which moved most (counted from 0)."""
    known = sorted((value, unit) for unit, value in enumerate(neurons) if value is not None and math.isfinite(value))
    new = sum(value is None for value in neurons)
    said = [f"{len(neurons):,} units"] + ([f"{new:,} new"] if new else [])
    if known:
        said.append(f"median {relative(known[len(known) // 2][0])}")
        moved = [f"{unit} ({relative(value)})" for value, unit in known[: -most - 1 : -1] if value > 0]
        said += [f"most changed: {', '.join(moved)}"] if moved else []
    return "; ".join(said)


def shade_key() -> list[tuple[str, Markup]]:
    """What each shade of `neuron_strip` means, with a swatch of it."""
    edges = [f"{100 * bound:g}" for bound in BOUNDS]
    names = [
        f"under {edges[0]} %",
        *(f"{a}–{b} %" for a, b in zip(edges, edges[1:], strict=False)),
        f"{edges[-1]} % or more",
    ]
    swatch = Markup('<svg class="swatch" width="12" height="12" aria-hidden="true">{}</svg>')
    cells = [Markup('<rect width="12" height="12" fill="{}"/>').format(colour) for colour in (IDENTICAL, *SHADES)]
    cells.append(Markup('<path class="new" d="M2 1l8 10m0-10l-8 10"/>'))
    return [(name, swatch.format(cell)) for name, cell in zip(["identical", *names, "new unit"], cells, strict=True)]


# Of all neurons, the share with a higher score than those of a shade: the same in every layer.
LEADERS = (0.01, 0.05, 0.1, 0.2, 0.5)
_SCORE_SHADES = (*SHADES[:0:-1][: len(LEADERS)], "#eef1f4")


def score_strip(name: str, ahead: Sequence[float], chosen: Sequence[int]) -> Markup:
    """A cell per neuron, in rows of `UNITS_A_ROW`, darker the fewer are `ahead` of it; the chosen are framed."""
    by_shade: dict[int, list[int]] = {}
    for unit, share in enumerate(ahead):
        by_shade.setdefault(bisect_right(LEADERS, share), []).append(unit)
    frames = "".join(f"M{x - 0.5} {y - 0.5}h{_CELL}v{_ROW - 1}h-{_CELL}z" for x, y in _corners(chosen))
    cells = [
        Markup('<path stroke="{}" d="{}"/>').format(_SCORE_SHADES[shade], _cells(units))
        for shade, units in sorted(by_shade.items())
    ]
    label = f"{name}: {len(chosen):,} of {len(ahead):,} chosen"
    return Markup(
        '<svg class="strip" viewBox="-1 0 {} {}" role="img" stroke-width="{}"><title>{}</title>{}'
        '<path class="chosen" d="{}"/></svg>'
    ).format(
        UNITS_A_ROW * _PITCH + 1, -(-len(ahead) // UNITS_A_ROW) * _ROW + 1, _ROW - 1, label, Markup("").join(cells),
        frames,
    )  # fmt: skip


def score_key() -> list[tuple[str, Markup]]:
    """What each shade of `score_strip` means, and its frame, with a swatch of it."""
    parts = (0.0, *LEADERS, 1.0)
    names = [f"{100 * a:g}–{100 * b:g} %" for a, b in zip(parts, parts[1:], strict=False)]
    names[0] = f"the highest {100 * LEADERS[0]:g} % of all scores"
    swatch = Markup('<svg class="swatch" width="12" height="12" aria-hidden="true">{}</svg>')
    cells = [Markup('<rect width="12" height="12" fill="{}"/>').format(colour) for colour in _SCORE_SHADES]
    cells.append(Markup('<path class="chosen" d="M1 1h10v10h-10z"/>'))
    return [(name, swatch.format(cell)) for name, cell in zip([*names, "chosen"], cells, strict=True)]


_NEW = len(SHADES) + 1


def _shade(change: float | None) -> int:
    if change is None:
        return _NEW
    if change == 0:
        return 0
    return 1 + (bisect_right(BOUNDS, change) if math.isfinite(change) else len(BOUNDS))


def _corners(units: Sequence[int]) -> list[tuple[int, int]]:
    return [(unit % UNITS_A_ROW * _PITCH, unit // UNITS_A_ROW * _ROW + 1) for unit in units]


def _cells(units: Sequence[int]) -> str:
    # Thick strokes with relative moves: some seven characters a neuron, where a rectangle would need fifty.
    path, pen = [], (0, 0)
    for x, y in _corners(units):
        y += _ROW // 2 - 1
        path.append(f"m{x - pen[0]} {y - pen[1]}h{_CELL}")
        pen = (x + _CELL, y)
    return "".join(path)
