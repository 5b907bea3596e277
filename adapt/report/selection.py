"""The picture of a choice: every neuron's score, who was chosen, and how far measures agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from adapt import formatting
from adapt.evaluation.selection import MeasurePair, ScoredMeasure, top_neurons
from adapt.files import write_text
from adapt.report import figures
from adapt.report.template import environment


def write_selection(
    path: Path, measured: Sequence[ScoredMeasure], pairs: Sequence[MeasurePair], title: str, config: str = ""
) -> None:
    """Write the page of these measures to `path`, whole or not at all; the first of them is the one that chose."""
    page = environment().get_template("selection.html.j2").render(
        title=title, said=measured[0].summary, pairs=pairs, config=config, counted=formatting.counted,
        shades=figures.score_key(), parts=[_part(own, measured) for own in measured],
    )  # fmt: skip
    write_text(path, page)


def _part(own: ScoredMeasure, measured: Sequence[ScoredMeasure]) -> dict[str, Any]:
    by_site = {site: sorted(own.scores[site].tolist()) for site in own.scores.sites}
    values = sorted(value for site in by_site.values() for value in site)
    # Over decades where there are some; what is 0 then lies at the left end.
    positive = [value for value in values if value > 0]
    logarithmic = bool(positive) and values[0] >= 0 and positive[len(positive) // 2] * 8 < values[-1]
    if logarithmic:
        low, high = math.floor(math.log10(positive[len(positive) // 20])), math.ceil(math.log10(values[-1]))
        scale = figures.Axis(tuple(float(power) for power in range(low, max(high, low + 1) + 1)))
    else:
        scale = figures.axis(values[0], values[-1], most=4)

    def place(value: float) -> float:
        if logarithmic:
            value = math.log10(value) if value > 0 else scale.ticks[0]
        return min(1.0, max(0.0, scale.place(value)))

    rows = [
        {
            "name": site.name, "units": site.units, "chosen": len(own.chosen[site]),
            "weights": len(own.chosen[site]) * own.weights_per_neuron[site.name], "mean": sum(numbers) / len(numbers),
            "spread": _spread([place(numbers[round(part * (len(numbers) - 1))]) for part in (0, 0.25, 0.5, 0.75, 1)],
                              [scale.place(tick) for tick in scale.ticks], f"{site.name}: median "
                              f"{numbers[len(numbers) // 2]:.3g}, highest {numbers[-1]:.3g}"),
            "strip": figures.score_strip(site.name, _shares(values, own.scores[site].tolist()), own.chosen[site]),
        }
        for site, numbers in by_site.items()
    ]  # fmt: skip
    return {
        "name": own.name, "said": own.summary, "rows": rows, "logarithmic": logarithmic,
        "labels": _labels(scale, logarithmic), "top": top_neurons(own, measured),
        "others": [other.name for other in measured if other is not own],
    }  # fmt: skip


def _shares(values: Sequence[float], own: Sequence[float]) -> list[float]:
    """For each of a site's scores, the share of all neurons that have a higher one."""
    from bisect import bisect_right

    return [1 - bisect_right(values, value) / len(values) for value in own]


def _labels(scale: figures.Axis, logarithmic: bool) -> Markup:
    if not logarithmic:
        return figures.axis_labels(scale)
    texts = [
        Markup('<text x="{:.2f}%" y="11">1e{:g}</text>').format(100 * scale.place(tick), tick) for tick in scale.ticks
    ]
    return Markup('<svg class="scale" width="100%" height="14" aria-hidden="true">{}</svg>').format(
        Markup("").join(texts)
    )


def _spread(ends: Sequence[float], ticks: Sequence[float], label: str) -> Markup:
    low, first, middle, third, high = (100 * end for end in ends)
    grid = [Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y2="100%"/>').format(100 * tick) for tick in ticks]
    return Markup(
        '<svg class="pair spread" width="100%" height="16" role="img"><title>{}</title>{}'
        '<line class="thin" x1="{:.2f}%" x2="{:.2f}%" y1="8" y2="8"/>'
        '<line class="thick" x1="{:.2f}%" x2="{:.2f}%" y1="8" y2="8"/>'
        '<circle cx="{:.2f}%" cy="8" r="3.5"/></svg>'
    ).format(label, Markup("").join(grid), low, high, first, third, middle)
