"""The page of a plan: the learning curve with its forecast, and what to label next."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from adapt.files import write_text
from adapt.report.line_chart import Curve, line_chart
from adapt.report.template import environment

if TYPE_CHECKING:
    from adapt.planning.curve import LearningCurve
    from adapt.planning.forecast import Forecast
    from adapt.planning.next_batch import NextBatch

MAX_CHOSEN = 200  # rows of the table of what to label next
_DRAWN = 24  # places at which the fitted law is drawn
_FIGURES = {
    "coverage": ("Share of all candidates' units that are covered", True),
    "units": ("Different units", False),
    "examples": ("Number chosen", False),
    "speakers": ("Speakers", False),
    "gradient": ("Mean gradient length", False),
    "confusion": ("Mean confusion", False),
    "disagreement": ("Mean disagreement between speeds", False),
}


def write_plan(
    path: Path | str,
    curve: LearningCurve | None,
    forecast: Forecast | None,
    batch: NextBatch | None,
    title: str,
    config: str = "",
) -> None:
    """Write the page of a plan to an HTML file, atomically.

    Args:
        path: The file.
        curve: The learning curve; None leaves out its section.
        forecast: Its extrapolation; needed with `curve`.
        batch: What to label next; None leaves out its section.
        title: The title of the page.
        config: The configuration as YAML.
    """
    page = (
        environment()
        .get_template("plan.html.j2")
        .render(
            title=title,
            summary=" ".join(part.sentence for part in (forecast, batch) if part is not None),
            curve=curve,
            forecast=forecast,
            chart=None if curve is None or forecast is None else _chart(curve, forecast),
            batch=batch,
            chosen=[] if batch is None else batch.chosen[:MAX_CHOSEN],
            measures=[] if batch is None else sorted(batch.candidates[0].scores),
            comparison=[] if batch is None else _comparison(batch),
            config=config,
        )
    )
    write_text(path, page)


def _chart(curve: LearningCurve, forecast: Forecast) -> Any:
    scale = curve.metric.scale
    shares = sorted({point.share for point in curve.points})
    own = {share: [point for point in curve.points if point.share == share] for share in shares}
    measured = {fmean(p.size for p in points): scale * fmean(p.value for p in points) for points in own.values()}
    low, high = min(point.size for point in curve.points), curve.size + forecast.more
    places = [low + (high - low) * (number / (_DRAWN - 1)) ** 2 for number in range(_DRAWN)]
    law = {place: scale * forecast.value_at(place) for place in places}
    lines = [Curve("measured", "validation", measured), Curve("fitted law", "training", law)]
    return line_chart("Learning curve", lines, curve.metric.unit, curve.unit)


def _comparison(batch: NextBatch) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, values in batch.comparison.items():
        label, is_share = _FIGURES[name]
        low, high = values["random_range"]
        said = [_said(value, is_share) for value in (values["chosen"], values["random"], low, high)]
        rows.append((label, said[0], said[1], f"{said[2]} to {said[3]}"))
    return rows


def _said(value: float, is_share: bool) -> str:
    return f"{100 * value:.1f} %" if is_share else f"{value:.4g}"
