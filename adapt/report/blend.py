"""The report's section on the blend: target against source along the factor, the chosen blend, and its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from adapt.blending.front import described
from adapt.report.figures import Axis, axis
from adapt.report.template import environment

if TYPE_CHECKING:
    from adapt.blending.front import Front, Point
    from adapt.metrics import Metric

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 454, 20, 266
_STYLES = {"single": "validation", "layers": "second", "random": "third"}
_NAMES = {
    "single": "one factor", "layers": "a factor per layer", "random": "the same factors, randomly assigned to layers",
}  # fmt: skip


def blend_section(front: Front) -> Markup:
    """Return the section as HTML."""
    template = environment().get_template("blend_section.html.j2")
    kinds = [kind for kind in _STYLES if any(point.kind == kind for point in front.points)]
    return Markup(template.render(
        front=front, metric=front.metric, chart=front_chart(front), conclusion=front.reason, described=described,
        key=[(_STYLES[kind], _NAMES[kind]) for kind in kinds],
        layers=[(name, value, front.gains.get(name), front.costs.get(name))
                for name, value in front.point.layers.items()],
    ))  # fmt: skip


def front_chart(front: Front) -> Markup:
    """Draw the main metric on the target (up) against that on the source (right), with 95 % intervals."""
    metric = front.metric
    across, up = (_axis([point.intervals[name] for point in front.points], metric) for name in ("source", "target"))
    parts = [*_grid(across, up, metric)]
    singles = [point for point in front.points if point.kind == "single"]
    places = [_place(point, metric, across, up) for point in singles]
    parts.append(
        Markup('<g class="curve validation"><polyline points="{}"/></g>').format(
            " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        )
    )
    for number, point in enumerate(front.points):
        parts.append(_drawn(point, metric, across, up, number == front.chosen))
    title = f"{metric.label} of target and source for each blend, on validation data"
    return Markup('<svg class="curves" viewBox="0 0 480 306" role="img"><title>{}</title>{}</svg>').format(
        title, Markup("").join(parts)
    )


def _axis(intervals: Sequence[tuple[float, float]], metric: Metric) -> Axis:
    ends = [metric.scale * end for interval in intervals for end in interval]
    return axis(min(ends) if metric.higher else 0.0, max(ends), max_ticks=7)


def _x(value: float, metric: Metric, across: Axis) -> float:
    return _LEFT + (_RIGHT - _LEFT) * across.place(metric.scale * value)


def _y(value: float, metric: Metric, up: Axis) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * up.place(metric.scale * value)


def _place(point: Point, metric: Metric, across: Axis, up: Axis) -> tuple[float, float]:
    source, target = (point.values[name][metric.key] for name in ("source", "target"))
    return _x(source, metric, across), _y(target, metric, up)


def _grid(across: Axis, up: Axis, metric: Metric) -> list[Markup]:
    parts = []
    for tick in up.ticks:
        y = _BOTTOM - (_BOTTOM - _TOP) * up.place(tick)
        row = (
            '<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/><text class="y" x="{}" y="{:.1f}">{}</text>'
        )
        parts.append(Markup(row).format(_LEFT, _RIGHT, _LEFT - 6, y + 4, f"{round(tick, 6):g}{metric.unit}", y=y))
    for tick in across.ticks:
        x = _LEFT + (_RIGHT - _LEFT) * across.place(tick)
        label = '<text class="x" x="{:.1f}" y="{}">{}</text>'
        parts.append(Markup(label).format(x, _BOTTOM + 18, f"{round(tick, 6):g}{metric.unit}"))
    middle = (_LEFT + _RIGHT) / 2
    text = '<text class="x" x="{}" y="{}">{} on the source</text><text x="{}" y="12">{} on the target</text>'
    return [*parts, Markup(text).format(middle, _BOTTOM + 36, metric.label, _LEFT, metric.label)]


def _drawn(point: Point, metric: Metric, across: Axis, up: Axis, chosen: bool) -> Markup:
    x, y = _place(point, metric, across, up)
    (left, right), (low, high) = point.intervals["source"], point.intervals["target"]
    values: dict[str, Any] = {
        "style": _STYLES[point.kind], "x": f"{x:.1f}", "y": f"{y:.1f}",
        "left": f"{_x(left, metric, across):.1f}", "right": f"{_x(right, metric, across):.1f}",
        "low": f"{_y(low, metric, up):.1f}", "high": f"{_y(high, metric, up):.1f}",
        "name": described(point), "label": f"{point.factor:g}" if point.kind == "single" else "",
        "below": f"{y - 8:.1f}", "beside": f"{x + 8:.1f}",
    }  # fmt: skip
    ring = '<circle class="chosen" cx="{x}" cy="{y}" r="8"/>' if chosen else ""
    return Markup(
        '<g class="curve faint {style}"><line x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>'
        '<line x1="{x}" x2="{x}" y1="{low}" y2="{high}"/></g>'
        '<g class="curve {style}"><circle cx="{x}" cy="{y}" r="3.5"><title>{name}</title></circle></g>'
        + ring
        + '<text x="{beside}" y="{below}">{label}</text>'
    ).format(**values)
