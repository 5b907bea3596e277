"""Evaluate a model on test data, with and without interventions: metrics and their intervals for each set and group."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapt.checks import check_counts
from adapt.comparison.hypotheses import GROUP_BY
from adapt.comparison.languages import language_accuracy
from adapt.comparison.non_speech import NonSpeech, measure_non_speech
from adapt.comparison.results import by_group, grouping_keys, signatures
from adapt.data.example import Example
from adapt.data.loader import Loader, as_loader
from adapt.data.manifest import Splits
from adapt.data.normalisers import Normalise
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.evaluation.conditions import Condition
from adapt.evaluation.sweep import SweepPoint, measure
from adapt.files import read_json, write_json, write_text
from adapt.metrics import Metric, TextScores
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.models.task import Task
from adapt.models.writing import normalising, writing
from adapt.transcription.any_length import decode_any_length

log = logging.getLogger(__name__)

TRANSCRIPTS = "transcripts.jsonl"


@dataclass(frozen=True)
class EvaluationResult:
    """The results of an evaluation, as plain data.

    Attributes:
        reference: The model's name.
        metrics: The metrics that were measured, the most important first.
        example_name: The task's word for an example: utterance or sentence.
        sets: The metrics of each set ("target", "source") as `TextScores.as_dict` returns them and, under "groups",
            those for each value of each grouping key. "as_written" has the error rates without a normaliser, if there
            is one.
        transcripts: The decoded text of each example ("pred_text"), without and with each intervention.
        points: The results with interventions; the `chart` of a point is the name of the set.
        non_speech: What the model wrote for sounds without speech, as `NonSpeech.as_dict` returns it; None if not
            measured.
    """

    reference: str
    metrics: tuple[Metric, ...]
    example_name: str
    sets: Mapping[str, Mapping[str, Any]]
    transcripts: Sequence[Mapping[str, str]]
    points: Sequence[SweepPoint] = ()
    non_speech: Mapping[str, Any] | None = None

    @property
    def setting(self) -> str:
        """What the values of the points are: strengths or numbers of neurons."""
        return "strength" if self.points and self.points[0].line == "interventions" else "number of neurons"

    def figures(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`."""
        points = {"points": [point.as_dict() for point in self.points]} if self.points else {}
        described = {
            "reference": self.reference,
            "metrics": [asdict(metric) for metric in self.metrics],
            "example_name": self.example_name,
        }
        sounds = {} if self.non_speech is None else {"non_speech": self.non_speech}
        return {**self.sets, **points, **sounds, **signatures(self.metrics), **described}

    def save_transcripts(self, path: Path) -> None:
        """Write the transcripts as JSON lines, atomically."""
        lines = [json.dumps(line, ensure_ascii=False) for line in self.transcripts]
        write_text(path, "".join(f"{line}\n" for line in lines))

    def save(self, folder: Path | str) -> None:
        """Write `transcripts.jsonl` and `metrics.json`."""
        self.save_transcripts(Path(folder) / TRANSCRIPTS)
        write_json(Path(folder) / "metrics.json", self.figures())

    @classmethod
    def load(cls, folder: Path | str) -> "EvaluationResult":
        """Read what `save`, or a run of `innertune evaluate`, wrote.

        Raises:
            InputError: The folder does not contain the result of an evaluation.
        """
        try:
            values = read_json(Path(folder) / "metrics.json")
            lines = (Path(folder) / TRANSCRIPTS).read_text(encoding="utf-8").splitlines()
            sets = {name: values[name] for name in ("target", "source") if name in values}
            return cls(
                values["reference"],
                tuple(Metric(**metric) for metric in values["metrics"]),
                values["example_name"],
                sets,
                [json.loads(line) for line in lines],
                [SweepPoint.from_dict(point, sets[point["chart"]]) for point in values.get("points", ())],
                values.get("non_speech"),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"'{folder}' does not hold the result of an evaluation ({error}).") from None


def evaluate(
    loaded: Loaded,
    splits: Splits,
    *,
    loader: Loader | None = None,
    group_by: str | Sequence[str] = GROUP_BY,
    interventions: Sequence[Condition] = (),
    normalise: Normalise = "auto",
    non_speech: int = 0,
) -> EvaluationResult:
    """Measure a model's error rates, or BLEU and chrF, on `splits.test` and `splits.source_test`.

    Args:
        loaded: The model.
        splits: The data; the test sets are called "target" and "source" in the result.
        loader: Batches the data; None uses the default.
        group_by: The key or keys of the examples by which results are grouped. Keys that no example has are ignored;
            this is logged if the keys are not the default ones.
        interventions: Further conditions to evaluate, from the functions of `adapt.evaluation.conditions`.
        normalise: How texts are normalised before they are compared (`adapt.models.writing.choose_normaliser`).
        non_speech: The number of sounds without speech that a recogniser should write nothing for; 0 skips them.

    Returns:
        The metrics, their 95 % intervals, and the transcripts.

    Raises:
        InputError: There is no test data, an intervention does not fit the model, or sounds are for a model that
            reads text.
    """
    check_counts(0, non_speech=non_speech)
    sets = {name: part for name, part in (("target", splits.test), ("source", splits.source_test)) if part}
    if not sets:
        raise InputError("splits has no test examples: expected some in test or source_test.")
    if non_speech and not loaded.model.reads_audio:
        raise InputError(f"non_speech={non_speech}: '{loaded.reference}' reads text, so it cannot hear sounds.")
    group_by, loader = grouping_keys(group_by), as_loader(loader)
    every = [example for part in sets.values() for example in part]
    with normalising([loaded.model], every, normalise):
        result = _evaluate(loaded, sets, loader, group_by, interventions)
    if not non_speech:
        return result
    sounds: NonSpeech = measure_non_speech(loaded.model, every, loader, non_speech)
    return replace(result, non_speech=sounds.as_dict())


def _evaluate(
    loaded: Loaded,
    sets: Mapping[str, Sequence[Example]],
    loader: Loader,
    group_by: Sequence[str],
    interventions: Sequence[Condition],
) -> EvaluationResult:
    model, task = loaded.model, loaded.model.task
    scores: dict[str, dict[str, Any]] = {}
    transcripts: list[dict[str, str]] = []
    points: list[SweepPoint] = []
    for name, examples in sets.items():
        texts = decode_any_length(model, task, examples, loader, name)
        unmodified = task.score(examples, texts)
        own = _unwritable(name, model, examples) | _detected(name, model, examples, loader)
        if (style := writing(task, examples, texts)) is not None:
            own["as_written"] = style.as_dict()
        groups = _groups(name, examples, unmodified, group_by, task)
        scores[name] = unmodified.as_dict() | own | {"groups": groups}
        transcripts += _transcripts(examples, texts, set=name)
        for condition in interventions:
            setting = (name, condition.line, condition.value, condition.control)
            point, texts = measure(model, condition.interventions, examples, unmodified, loader, *setting)
            points.append(point)
            transcripts += _transcripts(
                examples, texts, set=name, intervention=f"{condition.line}, {condition.value:g}"
            )
    return EvaluationResult(loaded.reference, tuple(task.metrics), task.example_name, scores, transcripts, points)


def _unwritable(name: str, model: Model, examples: Sequence[Example]) -> dict[str, Any]:
    """Return the number of examples whose text the model can never write, as "unwritable"; nothing if it is 0."""
    found = [(example, parts) for example in examples if (parts := model.unwritable(example))]
    if not found:
        return {}
    example, parts = found[0]
    log.warning(
        "%s: the model can never write the text of %d of %d %ss. The first: %s, with %s.",
        name, len(found), len(examples), model.task.example_name, example.where or example.name,
        ", ".join(map(repr, parts[:8])),
    )  # fmt: skip
    return {"unwritable": len(found)}


def _detected(name: str, model: Model, examples: Sequence[Example], loader: Loader) -> dict[str, float]:
    """Return the share of examples with a language in which the model detects it, as "language_accuracy"."""
    share = language_accuracy(model, examples, loader, name)
    return {} if share is None else {"language_accuracy": share}


def _groups(
    name: str, examples: Sequence[Example], scores: TextScores, group_by: Sequence[str], task: Task
) -> dict[str, dict[str, Any]]:
    groups = {key: by_group(examples, key) for key in group_by}
    missing = [key for key, values in groups.items() if list(values) == ["unknown"]]
    if missing and tuple(group_by) != GROUP_BY:
        log.info("%s: not grouped by %s, because no %s has it.", name, " or ".join(missing), task.example_name)
    return {
        key: {value: scores[chosen].as_dict() for value, chosen in values.items()}
        for key, values in groups.items()
        if key not in missing
    }


def _transcripts(examples: Sequence[Example], texts: Sequence[str], **about: str) -> list[dict[str, str]]:
    return [about | _input(example) | {"pred_text": text} for example, text in zip(examples, texts, strict=True)]


def _input(example: Example) -> dict[str, str]:
    if isinstance(example, Pair):
        return {"source": example.source, "target": example.target}
    return {"audio_filepath": example.name, "text": example.text}
