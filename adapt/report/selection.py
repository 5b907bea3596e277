"""The page of a neuron selection: the score of every neuron, the selected neurons, and how well the measures agree."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from adapt import formatting
from adapt.evaluation.selection import MeasurePair, ScoredMeasure, top_neurons
from adapt.files import write_text
from adapt.report import figures
from adapt.report.template import environment

_QUARTILES = (0, 0.25, 0.5, 0.75, 1)


def write_selection(
    path: Path | str,
    measures: Sequence[ScoredMeasure],
    pairs: Sequence[MeasurePair],
    title: str,
    config: str = "",
) -> None:
    """Write the page of a selection to an HTML file, atomically.

    Args:
        path: The file.
        measures: The measures; the first made the selection, the others are for comparison.
        pairs: The overlap and the rank correlation of each pair of measures, with the keys `one`, `other`, `both`,
            `overlap`, `chance` and `correlation`.
        title: The title of the page.
        config: The configuration as YAML.
    """
    page = (
        environment()
        .get_template("selection.html.j2")
        .render(
            title=title,
            summary=measures[0].summary,
            pairs=pairs,
            config=config,
            counted=formatting.counted,
            shades=figures.score_key(),
            sections=[_section(measure, measures) for measure in measures],
        )
    )
    write_text(path, page)


@dataclass(frozen=True)
class _ScoreAxis:
    """The axis of scores. If it is `logarithmic`, its ticks are exponents of ten, and 0 is at the left end."""

    axis: figures.Axis
    logarithmic: bool

    def place(self, value: float) -> float:
        """Return the position of a score on the axis, from 0 (left) to 1 (right)."""
        if self.logarithmic:
            value = math.log10(value) if value > 0 else self.axis.ticks[0]
        return min(1.0, max(0.0, self.axis.place(value)))

    def labels(self) -> Markup:
        """Draw the tick labels."""
        if not self.logarithmic:
            return figures.axis_labels(self.axis)
        texts = [
            Markup('<text x="{:.2f}%" y="11">1e{:g}</text>').format(100 * self.axis.place(tick), tick)
            for tick in self.axis.ticks
        ]
        return Markup('<svg class="scale" width="100%" height="14" aria-hidden="true">{}</svg>').format(
            Markup("").join(texts)
        )


def _score_axis(values: Sequence[float]) -> _ScoreAxis:
    """Return an axis for sorted scores: logarithmic if they span orders of magnitude, otherwise linear."""
    positive = [value for value in values if value > 0]
    if not (positive and values[0] >= 0 and positive[len(positive) // 2] * 8 < values[-1]):
        return _ScoreAxis(figures.axis(values[0], values[-1], max_ticks=4), logarithmic=False)
    low, high = math.floor(math.log10(positive[len(positive) // 20])), math.ceil(math.log10(values[-1]))
    powers = range(low, max(high, low + 1) + 1)
    return _ScoreAxis(figures.Axis(tuple(float(power) for power in powers)), logarithmic=True)


def _section(measure: ScoredMeasure, measures: Sequence[ScoredMeasure]) -> dict[str, Any]:
    by_site = {site: sorted(measure.scores[site].tolist()) for site in measure.scores.sites}
    values = sorted(value for site in by_site.values() for value in site)
    scale = _score_axis(values)
    rows = []
    for site, scores in by_site.items():
        chosen = measure.chosen[site]
        quartiles = [scores[round(share * (len(scores) - 1))] for share in _QUARTILES]
        label = f"{site.name}: median {scores[len(scores) // 2]:.3g}, highest {scores[-1]:.3g}"
        ranks = _shares_above(values, measure.scores[site].tolist())
        rows.append(
            {
                "name": site.name,
                "units": site.units,
                "chosen": len(chosen),
                "weights": len(chosen) * measure.weights_per_neuron[site.name],
                "mean": sum(scores) / len(scores),
                "box": _box(scale, quartiles, label),
                "strip": figures.score_strip(site.name, ranks, chosen),
            }
        )
    return {
        "name": measure.name,
        "summary": measure.summary,
        "rows": rows,
        "logarithmic": scale.logarithmic,
        "labels": scale.labels(),
        "top": top_neurons(measure, measures),
        "others": [other.name for other in measures if other is not measure],
    }


def _shares_above(values: Sequence[float], scores: Sequence[float]) -> list[float]:
    """Return, for each score, the share of all `values` (sorted) that are higher."""
    return [1 - bisect_right(values, score) / len(values) for score in scores]


def _box(scale: _ScoreAxis, quartiles: Sequence[float], label: str) -> Markup:
    """Draw the range (thin line), the middle half (thick line) and the median (circle) of a site's scores."""
    low, first, median, third, high = (100 * scale.place(value) for value in quartiles)
    grid = [
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(100 * scale.axis.place(tick))
        for tick in scale.axis.ticks
    ]
    return Markup(
        '<svg class="pair spread" width="100%" height="16" role="img"><title>{}</title>{}'
        '<line class="thin" x1="{:.2f}%" x2="{:.2f}%" y1="8" y2="8"/>'
        '<line class="thick" x1="{:.2f}%" x2="{:.2f}%" y1="8" y2="8"/>'
        '<circle cx="{:.2f}%" cy="8" r="3.5"/></svg>'
    ).format(label, Markup("").join(grid), low, high, first, third, median)
