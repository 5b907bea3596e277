"""The page of a sweep: the metrics for each setting of an intervention, as curves and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapt.files import write_text
from adapt.report.line_chart import Curve, line_chart
from adapt.report.template import environment

if TYPE_CHECKING:
    from adapt.evaluation.sweep import SweepPoint
    from adapt.metrics import Metric

_STYLES = ("validation", "second", "training")  # of the curves, in order
_CONTROL = "third"


def write_sweep(
    path: Path | str,
    points: Sequence[SweepPoint],
    metrics: Sequence[Metric],
    example_name: str,
    title: str,
    summary: str,
    setting: str,
    config: str = "",
) -> None:
    """Write the page of a sweep to an HTML file, atomically.

    Args:
        path: The file.
        points: The measured settings.
        metrics: The metrics, the most important first.
        example_name: What the task calls an example: utterance or sentence.
        title: The title of the page.
        summary: The result in one sentence.
        setting: What was varied: coefficient, strength, number of neurons.
        config: The configuration as YAML.
    """
    main = metrics[0]
    unit = main.unit
    names = dict.fromkeys(point.chart for point in points)
    page = (
        environment()
        .get_template("sweep.html.j2")
        .render(
            title=title,
            summary=summary,
            setting=setting,
            example_name=example_name,
            config=config,
            points=points,
            metrics=metrics,
            main=main,
            legend=_legend(points, main),
            charts=[(name, line_chart(name, _curves(points, name, main), unit, setting)) for name in names],
        )
    )
    write_text(path, page)


def _legend(points: Sequence[SweepPoint], metric: Metric) -> list[tuple[str, str]]:
    """Return the style and the name of each curve, for all charts. All controls share one entry."""
    lines = _curves(points, points[0].chart, metric)
    names = {line.style: line.name for line in reversed(lines)}
    return [(style, names[style]) for style in (*_STYLES, _CONTROL) if style in names]


def _curves(points: Sequence[SweepPoint], chart: str, metric: Metric) -> list[Curve]:
    lines: dict[str, dict[float, float]] = {}
    controls = {point.line for point in points if point.control}
    for point in points:
        if point.chart == chart:
            values = lines.setdefault(point.line, {0.0: metric.scale * point.unmodified[metric.key]})
            values[point.value] = metric.scale * point.quality[metric.key]
    tested = [name for name in lines if name not in controls]
    styles = {name: _STYLES[i % len(_STYLES)] for i, name in enumerate(tested)}
    # Controls are drawn last, on top of the other curves. The page has one legend for all charts.
    return [
        Curve(name, styles.get(name, _CONTROL), lines[name], in_legend=False)
        for name in sorted(lines, key=lambda name: name in controls)
    ]
