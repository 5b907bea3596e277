"""What interventions do to a model's answers: each setting measured beside the bare model, on the same examples."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.metrics import TextScores, paired_intervals
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from interventions.intervene import intervene
from interventions.intervention import Intervention


@dataclass(frozen=True)
class Point:
    """One setting, measured. `chart` and `line` say in which picture it is and on which curve, `value` where along it.

    `quality` and `bare` are what `TextScores.as_dict` gives with the interventions and without, `difference` has each
    metric's 95 % interval of the one minus the other. `control` says that it is there to be compared with.
    """

    chart: str
    line: str
    value: float
    quality: Mapping[str, Any]
    bare: Mapping[str, Any]
    difference: Mapping[str, tuple[float, float]]
    control: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `metrics.json`."""
        return {name: value for name, value in asdict(self).items() if name != "bare"}


def measure(
    model: Model,
    interventions: Sequence[Intervention],
    examples: Sequence[Example],
    bare: TextScores,
    loader: Loader,
    chart: str,
    line: str,
    value: float,
    control: bool = False,
) -> tuple[Point, list[str]]:
    """Let the model answer with the interventions on, and judge it beside its `bare` ones. Returns the texts too.

    Raises:
        NeverRanError: an intervention edited nothing.
        InputError: an intervention does not fit what the model puts out at its site.
    """
    try:
        with intervene(model, *interventions):
            texts = decode_examples(model, model.task, examples, loader, f"{line} {value:g}")
    except ValueError as error:
        raise InputError(f"{line}, {value:g}: {error}") from None
    quality = model.task.evaluate([example.text for example in examples], texts)
    told = quality.as_dict(), bare.as_dict(), paired_intervals(bare, quality)
    return Point(chart, line, value, *told, control), texts
