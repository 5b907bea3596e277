"""The picture of a sweep: quality over the settings of an intervention, a curve each, controls beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapt.files import write_text
from adapt.report import figures, wording
from adapt.report.template import environment

if TYPE_CHECKING:
    from adapt.evaluation.sweep import SweepPoint
    from adapt.metrics import Metric

_STYLES = ("validation", "second", "training")  # of curves, in their order
_CONTROL = "third"


def write_sweep(
    path: Path,
    points: Sequence[SweepPoint],
    metrics: Sequence[Metric],
    example_name: str,
    title: str,
    summary: str,
    along: str,
    config: str = "",
) -> None:
    """Write the page of these points to `path`, whole or not at all; `along` names what was varied."""
    jinja = environment()
    jinja.filters["verdict"] = wording.verdict
    page = jinja.get_template("sweep.html.j2").render(
        title=title, summary=summary, along=along, example_name=example_name, config=config, points=points, metrics=metrics,
        main=metrics[0], key=_key(points, metrics[0]),
        charts=[
            (chart, figures.curves(chart, _curves(points, chart, metrics[0]), " %" * metrics[0].percent, along))
            for chart in dict.fromkeys(point.chart for point in points)
        ],
    )  # fmt: skip
    write_text(path, page)


def _key(points: Sequence[SweepPoint], metric: Metric) -> list[tuple[str, str]]:
    """What each style of line is, for all pictures: style and name; one for all controls."""
    lines = _curves(points, points[0].chart, metric)
    key = {line.style: line.name for line in reversed(lines)}
    return [(style, key[style]) for style in (*_STYLES, _CONTROL) if style in key]


def _curves(points: Sequence[SweepPoint], chart: str, metric: Metric) -> list[figures.Curve]:
    lines: dict[str, dict[float, float]] = {}
    controls = {point.line for point in points if point.control}
    for point in points:
        if point.chart == chart:
            values = lines.setdefault(point.line, {0.0: metric.scale * point.unmodified[metric.key]})
            values[point.value] = metric.scale * point.quality[metric.key]
    own = [name for name in lines if name not in controls]
    styles = {name: _STYLES[number % len(_STYLES)] for number, name in enumerate(own)}
    # Controls last, and so above: what lies under them has shown nothing. The page has one key for all pictures.
    return [
        figures.Curve(name, styles.get(name, _CONTROL), lines[name], keyed=False)
        for name in sorted(lines, key=lambda name: name in controls)
    ]
