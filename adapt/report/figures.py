"""The report's figures as inline SVG: axes, intervals, bars, and strips with one cell per neuron.

Axes, intervals and bars place their parts in percentages, so they fit any width at the same text size. Strips scale as
a whole, and contain no text, because it would be unreadably small on a phone.
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

UNITS_PER_ROW = 128
# For each shade, the upper bound of the relative change of a neuron's weights. The bounds do not depend on the data, so
# a shade has the same meaning in every layer and every report.
BOUNDS = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
SHADES = ("#f9e3c8", "#f5c893", "#eda45a", "#d97f2b", "#b55a10", "#843b07", "#4a1e02")
IDENTICAL = "#dfe5ea"
_CELL, _PITCH, _ROW = 6, 7, 11  # size of a neuron's cell, distance to the next, height of a row; SVG user units


@dataclass(frozen=True)
class Axis:
    """A linear scale from the first to the last tick."""

    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return the position of a value on the axis: 0 at its start, 1 at its end."""
        return (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])


def axis(low: float, high: float, max_ticks: int = 6) -> Axis:
    """Return an axis that covers `low` to `high` and has the roundest possible ticks, at most `max_ticks`."""
    if not high > low:
        high = low + 1.0
    unit = 10 ** math.floor(math.log10((high - low) / max_ticks))
    step = next(
        unit * factor
        for factor in (1, 2, 5, 10, 20, 50)
        if math.ceil(high / (unit * factor)) - math.floor(low / (unit * factor)) < max_ticks
    )
    first, last = math.floor(low / step), math.ceil(high / step)
    return Axis(tuple(step * k for k in range(first, last + 1)))


def metric_axis(results: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> Axis:
    """Return an axis from 0 to the highest value or interval end in `results`, dicts from `TextScores.as_dict`."""
    ends = [(m.scale, (values[m.key], *values[f"{m.key}_interval"])) for values in results for m in metrics]
    return axis(0.0, max(round(scale * value, 9) for scale, values in ends for value in values))


def axis_labels(scale: Axis) -> Markup:
    """Draw the tick labels of an axis, for the header of a column of figures."""
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
    """Draw a metric before (open circle) and after (full circle, below it), each with its 95 % interval.

    Args:
        name: The name of the row, for the title of the figure.
        before: The values and intervals before, from `TextScores.as_dict`.
        after: The values and intervals after.
        metric: The metric to draw.
        scale: The axis, shared by all rows of a table.

    Returns:
        The SVG element.
    """

    def place(value: float) -> float:
        return 100 * scale.place(metric.scale * value)

    parts = [
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(100 * scale.place(tick))
        for tick in scale.ticks
    ]
    places = [place(values[metric.key]) for values in (before, after)]
    parts.append(Markup('<line class="link" x1="{:.2f}%" y1="7" x2="{:.2f}%" y2="17"/>').format(*places))
    for values, kind, middle, y in ((before, "before", places[0], 7), (after, "after", places[1], 17)):
        low, high = (place(end) for end in values[f"{metric.key}_interval"])
        parts.append(
            Markup(
                '<g class="{}"><line x1="{:.2f}%" x2="{:.2f}%" y1="{y}" y2="{y}"/>'
                '<circle cx="{:.2f}%" cy="{y}" r="4"/></g>'
            ).format(kind, low, high, middle, y=y)
        )
    label = f"{name}: " + ", ".join(
        f"{when} {amount(values[metric.key], metric)} ({_interval_of(values, metric)})"
        for when, values in (("before", before), ("after", after))
    )
    return Markup('<svg class="pair" width="100%" height="24" role="img"><title>{}</title>{}</svg>').format(
        label, Markup("").join(parts)
    )


def _interval_of(values: Mapping[str, Any], metric: Metric) -> str:
    return amount_range(values[f"{metric.key}_interval"], metric, values.get("examples", 2))


def interval(name: str, values: Mapping[str, Any], metric: Metric, scale: Axis) -> Markup:
    """Draw a metric (full circle) with its 95 % interval on a shared axis."""
    places = (values[metric.key], *values[f"{metric.key}_interval"])
    middle, low, high = (100 * scale.place(metric.scale * value) for value in places)
    grid = [
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(100 * scale.place(tick))
        for tick in scale.ticks
    ]
    return Markup(
        '<svg class="pair" width="100%" height="24" role="img"><title>{}</title>{}<g class="after">'
        '<line x1="{:.2f}%" x2="{:.2f}%" y1="12" y2="12"/><circle cx="{:.2f}%" cy="12" r="4"/></g></svg>'
    ).format(f"{name}: {amount(values[metric.key], metric)}", Markup("").join(grid), low, high, middle)


def cause_row(name: str, cause: tuple[float, float], ends: tuple[float, float], metric: Metric, scale: Axis) -> Markup:
    """Draw the effect of a part of the change: applied alone (open circle), and reverted (full circle, below it).

    A line connects each circle with the model that it starts from: before if applied alone, after if reverted.

    Args:
        name: The name of the part, for the title of the figure.
        cause: The metric with the part applied alone, and with the part reverted.
        ends: The metric before and after the whole change, drawn as vertical lines.
        metric: The metric to draw.
        scale: The axis, shared by all rows of a table.

    Returns:
        The SVG element.
    """
    applied, reverted = (100 * scale.place(metric.scale * value) for value in cause)
    before, after = (100 * scale.place(metric.scale * value) for value in ends)
    label = f"{name}: applied alone {amount(cause[0], metric)}, reverted {amount(cause[1], metric)}"
    return Markup(
        '<svg class="pair" width="100%" height="24" role="img"><title>{label}</title>'
        '<line class="end" x1="{before:.2f}%" x2="{before:.2f}%" y2="100%"/>'
        '<line class="end" x1="{after:.2f}%" x2="{after:.2f}%" y2="100%"/>'
        '<g class="before"><line x1="{before:.2f}%" x2="{applied:.2f}%" y1="7" y2="7"/>'
        '<circle cx="{applied:.2f}%" cy="7" r="4"/></g>'
        '<g class="after"><line x1="{after:.2f}%" x2="{reverted:.2f}%" y1="17" y2="17"/>'
        '<circle cx="{reverted:.2f}%" cy="17" r="4"/></g></svg>'
    ).format(label=label, before=before, after=after, applied=applied, reverted=reverted)


def bar(change: float, largest: float) -> Markup:
    """Draw a layer's relative change as a bar whose length is its share of the `largest` change."""
    length = 100 * change / largest if math.isfinite(change) and largest > 0 else 0.0
    return Markup(
        '<svg class="bar" width="100%" height="12" aria-hidden="true"><rect width="100%" height="12"/>'
        '<rect class="value" width="{:.1f}%" height="12"/></svg>'
    ).format(length)


def neuron_strip(name: str, neurons: Sequence[float | None]) -> Markup:
    """Draw a cell per neuron in rows of `UNITS_PER_ROW`, shaded by its relative change. A cross marks a new neuron."""
    rows = -(-len(neurons) // UNITS_PER_ROW)
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
    ).format(UNITS_PER_ROW * _PITCH, rows * _ROW, _ROW - 1, f"{name}: {describe(neurons)}", Markup("").join(drawn))


def describe(neurons: Sequence[float | None], count: int = 3) -> str:
    """Describe the relative changes of a layer's neurons: their number, the median, and the `count` largest."""
    known = sorted((value, unit) for unit, value in enumerate(neurons) if value is not None and math.isfinite(value))
    new = sum(value is None for value in neurons)
    parts = [f"{len(neurons):,} units"]
    if new:
        parts.append(f"{new:,} new")
    if known:
        parts.append(f"median {relative(known[len(known) // 2][0])}")
        moved = [f"{unit} ({relative(value)})" for value, unit in known[: -count - 1 : -1] if value > 0]
        if moved:
            parts.append(f"most changed: {', '.join(moved)}")
    return "; ".join(parts)


def shade_key() -> list[tuple[str, Markup]]:
    """Return the meaning and a swatch of each shade of `neuron_strip`."""
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


# For each shade, the upper bound of the share of all neurons (of all layers) that have a higher score.
TOP_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
_SCORE_SHADES = (*SHADES[:0:-1][: len(TOP_SHARES)], "#eef1f4")


def score_strip(name: str, ranks: Sequence[float], selected: Sequence[int]) -> Markup:
    """Draw a cell per neuron in rows of `UNITS_PER_ROW`, darker for higher scores. Selected neurons have a frame.

    `ranks` has, for each neuron, the share of all neurons with a higher score.
    """
    by_shade: dict[int, list[int]] = {}
    for unit, share in enumerate(ranks):
        by_shade.setdefault(bisect_right(TOP_SHARES, share), []).append(unit)
    frames = "".join(f"M{x - 0.5} {y - 0.5}h{_CELL}v{_ROW - 1}h-{_CELL}z" for x, y in _corners(selected))
    cells = [
        Markup('<path stroke="{}" d="{}"/>').format(_SCORE_SHADES[shade], _cells(units))
        for shade, units in sorted(by_shade.items())
    ]
    label = f"{name}: {len(selected):,} of {len(ranks):,} selected"
    return Markup(
        '<svg class="strip" viewBox="-1 0 {} {}" role="img" stroke-width="{}"><title>{}</title>{}'
        '<path class="chosen" d="{}"/></svg>'
    ).format(
        UNITS_PER_ROW * _PITCH + 1, -(-len(ranks) // UNITS_PER_ROW) * _ROW + 1, _ROW - 1, label, Markup("").join(cells),
        frames,
    )  # fmt: skip


def score_key() -> list[tuple[str, Markup]]:
    """Return the meaning and a swatch of each shade of `score_strip`, and of its frame."""
    edges = (0.0, *TOP_SHARES, 1.0)
    names = [f"{100 * a:g}–{100 * b:g} %" for a, b in zip(edges, edges[1:], strict=False)]
    names[0] = f"top {100 * TOP_SHARES[0]:g} % of all scores"
    swatch = Markup('<svg class="swatch" width="12" height="12" aria-hidden="true">{}</svg>')
    cells = [Markup('<rect width="12" height="12" fill="{}"/>').format(colour) for colour in _SCORE_SHADES]
    cells.append(Markup('<path class="chosen" d="M1 1h10v10h-10z"/>'))
    return [(name, swatch.format(cell)) for name, cell in zip([*names, "selected"], cells, strict=True)]


_NEW = len(SHADES) + 1


def _shade(change: float | None) -> int:
    if change is None:
        return _NEW
    if change == 0:
        return 0
    return 1 + (bisect_right(BOUNDS, change) if math.isfinite(change) else len(BOUNDS))


def _corners(units: Sequence[int]) -> list[tuple[int, int]]:
    return [(unit % UNITS_PER_ROW * _PITCH, unit // UNITS_PER_ROW * _ROW + 1) for unit in units]


def _cells(units: Sequence[int]) -> str:
    # As thick strokes with relative moves, a neuron takes about seven characters; as a rectangle, about fifty.
    path, pen = [], (0, 0)
    for x, y in _corners(units):
        y += _ROW // 2 - 1
        path.append(f"m{x - pen[0]} {y - pen[1]}h{_CELL}")
        pen = (x + _CELL, y)
    return "".join(path)
