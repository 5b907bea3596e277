"""One point of a sweep: a model evaluated under interventions, compared with the unmodified model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.metrics import Metric, TextScores, paired_intervals
from adapt.models.model import Model
from adapt.transcription.any_length import decode_any_length
from interventions.intervene import intervene
from interventions.intervention import Intervention


@dataclass(frozen=True)
class SweepPoint:
    """The result at one setting of an intervention.

    Attributes:
        chart: The chart that shows the point: a set of examples, or a site.
        line: The curve in that chart.
        value: The point's position along the curve: a strength, a coefficient, or a number of neurons.
        quality: The metrics with the interventions, as `TextScores.as_dict` returns them.
        unmodified: The metrics of the unmodified model on the same examples.
        difference: The 95 % interval of each metric with the interventions minus without.
        control: Whether the point is a control.
    """

    chart: str
    line: str
    value: float
    quality: Mapping[str, Any]
    unmodified: Mapping[str, Any]
    difference: Mapping[str, tuple[float, float]]
    control: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`, without the unmodified model's metrics, which it has elsewhere."""
        return {name: value for name, value in asdict(self).items() if name != "unmodified"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], unmodified: Mapping[str, Any]) -> "SweepPoint":
        """Return the point that `as_dict` converted to plain values."""
        return cls(**values, unmodified=unmodified)


def measure(
    model: Model,
    interventions: Sequence[Intervention],
    examples: Sequence[Example],
    unmodified: TextScores,
    loader: Loader,
    chart: str,
    line: str,
    value: float,
    control: bool = False,
) -> tuple[SweepPoint, list[str]]:
    """Decode examples with interventions applied, and compare the scores with those of the unmodified model.

    Args:
        model: The model; the interventions are removed from it afterwards.
        interventions: The interventions, applied together in this order.
        examples: The examples to decode.
        unmodified: The scores of the unmodified model on `examples`.
        loader: Batches the examples.
        chart: As in `SweepPoint`.
        line: As in `SweepPoint`.
        value: As in `SweepPoint`.
        control: As in `SweepPoint`.

    Returns:
        The point, and the decoded text of each example.

    Raises:
        NeverRanError: An intervention edited nothing.
        InputError: An intervention does not fit the activations at its site.
    """
    try:
        with intervene(model, *interventions):
            texts = decode_any_length(model, model.task, examples, loader, f"{line} {value:g}")
    except ValueError as error:
        raise InputError(f"{line}, {value:g}: {error}") from None
    scores = model.task.score(examples, texts)
    difference = paired_intervals(unmodified, scores)
    return SweepPoint(chart, line, value, scores.as_dict(), unmodified.as_dict(), difference, control), texts


def summarise(points: Sequence[SweepPoint], metric: Metric) -> str:
    """Return a sentence comparing the first chart's best setting with the unmodified model and with its control."""
    # Only one chart, because the best result over several sets of examples would be that of the easiest set.
    chart = points[0].chart
    settings = [point for point in points if not point.control and point.chart == chart]
    best = (max if metric.higher else min)(settings, key=lambda point: point.quality[metric.key])
    unit = " %" if metric.percent else ""
    before, after = (metric.scale * values[metric.key] for values in (best.unmodified, best.quality))
    low, high = (metric.scale * end for end in best.difference[metric.key])
    difference = f"difference {low:+.1f} to {high:+.1f}"
    if len(settings) > 1:
        # The interval does not account for the setting having been chosen on the same examples.
        difference += f", chosen on the same {best.quality['examples']} examples"
    text = (
        f"On the {chart} set, the unmodified model has {metric.label} {before:.1f}{unit}. The best of {len(settings)} "
        f"settings ({best.line} at {best.value:g}) has {after:.1f}{unit} ({difference})"
    )
    controls = [point for point in points if point.control and (point.chart, point.value) == (chart, best.value)]
    if controls:
        mean = metric.scale * sum(point.quality[metric.key] for point in controls) / len(controls)
        text += f"; the control has {mean:.1f}{unit}"
    return f"{text}."
