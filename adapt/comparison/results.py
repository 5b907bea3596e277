"""The result of comparing two models, as plain data that can be saved, loaded and drawn again."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from adapt.blending.front import Front
from adapt.comparison.causes import Causes
from adapt.comparison.facts import RunFacts
from adapt.comparison.grids import TopographicSmoothness
from adapt.comparison.matched_pairs import MatchedPairs
from adapt.comparison.neurons import NeuronComparison
from adapt.comparison.recordings import AudioClip
from adapt.comparison.storage import from_json, to_json
from adapt.comparison.unlabelled import Unlabelled
from adapt.comparison.words import Transcript, WordChanges
from adapt.data.example import Example
from adapt.errors import InputError
from adapt.files import is_folder, read_json, user_path, write_json
from adapt.introspect.weights.change import WeightChange
from adapt.metrics import Metric
from adapt.models.task import recognition
from interventions.files import FileError, read_tensors, write_tensors

FORMAT = 1
_KIND = "comparison"
# Fields that version 0.1.0 did not write.
_ADDED = {"set_names": {}, "run": None, "matched_pairs": {}, "unlabelled": None, "blend": None}


@dataclass(frozen=True)
class GroupResult:
    """The metrics on the examples of one set ("target" or "source") whose `key` ("accent", ...) has this `value`."""

    set: str
    key: str
    value: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True)
class SetResult:
    """The metrics on one set, as `TextScores.as_dict` returns them.

    `difference` is the 95 % interval of each metric after minus before, paired by example.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    difference: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Comparison:
    """Everything the report shows. Rates are fractions (0.1 is 10 %), times are in seconds.

    Attributes:
        before_name: The reference by which the original model was loaded.
        after_name: The reference by which the adapted model was loaded.
        sets: The metrics by set ("target", "source").
        groups: The metrics by group: accent, speaker, domain, ...
        transcripts: The outputs that changed most.
        weights: How the weights changed. None if the architectures differ.
        metrics: The metrics of the task, the most important first.
        example_name: The task's word for an example: utterance or sentence.
        title: The title of the report.
        words: Word-level changes by set.
        audio_clips: Audio clips of some transcripts, by position in `transcripts`.
        neurons: How the neurons changed. None if not measured.
        smoothness: The topographic smoothness. None if the model has no grids.
        causes: Which parts of the model caused the change. None if not measured.
        history: The values logged after each training epoch.
        seconds: The duration of the run.
        skipped: A sentence about each line of the data that could not be used.
        config: The configuration of the run as YAML.
        selection: A sentence on how the trained parameters were selected.
        set_names: What the examples of each set have in common, by set: an accent, a domain, a speaker or a file.
        matched_pairs: NIST's matched-pair test of word errors by set; empty for translations.
        unlabelled: How the model was adapted without labels. None if it was adapted with labels.
        blend: The blends with the base that were measured on validation data. None if there was no search.
        run: Date, command, versions, machine, amount of data, seed and learning rate. None if not recorded.
    """

    before_name: str
    after_name: str
    sets: dict[str, SetResult]
    groups: list[GroupResult]
    transcripts: list[Transcript]
    weights: WeightChange | None
    metrics: tuple[Metric, ...] = recognition.metrics
    example_name: str = recognition.example_name
    title: str = "Before and after"
    words: dict[str, WordChanges] = field(default_factory=dict)
    audio_clips: dict[int, AudioClip] = field(default_factory=dict)
    neurons: NeuronComparison | None = None
    smoothness: TopographicSmoothness | None = None
    causes: Causes | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    config: str = ""
    selection: str = ""
    set_names: dict[str, str] = field(default_factory=dict)
    run: RunFacts | None = None
    matched_pairs: dict[str, MatchedPairs] = field(default_factory=dict)
    unlabelled: Unlabelled | None = None
    blend: Front | None = None

    def save(self, path: Path | str) -> None:
        """Write the comparison to a JSON file, and its tensors to a safetensors file of the same name."""
        path = Path(path)
        tensors = {}
        stored = to_json(self, tensors, _KIND)
        tensor_path = path.with_suffix(".safetensors")
        write_tensors(tensor_path, _KIND, {}, tensors)
        header = {"kind": _KIND, "format": FORMAT, "tensors_sha256": _sha256(tensor_path)}
        write_json(path, header | stored)

    @classmethod
    def load(cls, path: Path | str) -> "Comparison":
        """Read the files that `save` wrote. For the folder of a run, its comparison is read.

        Raises:
            FileError: A file is missing or damaged, or the two files belong to different comparisons.
        """
        path = user_path(path)
        path = path / "comparison.json" if is_folder(path) else path
        tensor_path = path.with_suffix(".safetensors")
        try:
            stored = read_json(path)
        except (OSError, ValueError) as error:
            raise FileError(f"Cannot read the comparison '{path}': {error}.") from None
        if not isinstance(stored, dict) or (stored.get("kind"), stored.get("format")) != (_KIND, FORMAT):
            raise FileError(f"'{path}' is not a comparison that this version of innertune can read. Run it again.")
        _, tensors = read_tensors(tensor_path, _KIND)
        if stored.get("tensors_sha256") != _sha256(tensor_path):
            raise FileError(f"'{tensor_path}' does not belong to '{path}'. Copy both files from the same run.")
        try:
            return from_json(cls, _ADDED | stored, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"'{path}' is not a complete comparison ({error!r}). Run it again.") from None

    def figures(self) -> dict[str, Any]:
        """Return the numbers for `metrics.json`: `target.before.wer`, `weights.changed`, ..."""
        values: dict[str, Any] = {name: asdict(result) for name, result in self.sets.items()}
        for name, test in self.matched_pairs.items():
            values[name]["matched_pairs"] = asdict(test)
        if self.weights is not None:
            names = ("total", "trained", "parameters", "changed", "buffers_changed")
            values["weights"] = {name: getattr(self.weights, name) for name in names}
        values |= signatures(self.metrics)
        if self.unlabelled is not None:
            values["unlabelled"] = self.unlabelled.figures()
        if self.blend is not None:
            values["blend"] = self.blend.figures()
        if self.smoothness is not None:
            values["topographic"] = self.smoothness.as_dict()
        return values | {"seconds": self.seconds, "skipped": self.skipped, "history": self.history}


def signatures(metrics: Sequence[Metric]) -> dict[str, dict[str, str]]:
    """Return the metrics' signatures, with which others can reproduce them; empty if no metric has one."""
    by_key = {metric.key: metric.signature for metric in metrics if metric.signature}
    return {"signatures": by_key} if by_key else {}


def grouping_keys(group_by: str | Sequence[str]) -> tuple[str, ...]:
    """Return the keys to group by; a single key may be given as text. Raises InputError for anything else."""
    if isinstance(group_by, str):
        return (group_by,)
    if not isinstance(group_by, Sequence) or not all(isinstance(key, str) for key in group_by):
        raise InputError(
            f"group_by must be a key of the examples, such as 'accent', or a list of keys; got {group_by!r}."
        )
    return tuple(group_by)


def by_group(examples: Sequence[Example], key: str) -> dict[str, np.ndarray]:
    """Return the indices of the examples with each value of `key`, sorted by value."""
    indices: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        indices.setdefault(example.group(key), []).append(index)
    return {value: np.array(indices[value]) for value in sorted(indices)}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
