"""Answers of a changed model, beside the unmodified one and a control; effects on other examples; saving, folding.

The models that people loaded are never written to: factors between two models are written to a copy, and interventions
are removed when their block ends, also if it fails or is cancelled.
"""

import copy
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from adapt.blending.interpolate import Interpolation
from adapt.blending.related import stored_factors
from adapt.comparison.words import align
from adapt.corrections.collect import default_protected
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.subset import evenly
from adapt.errors import InputError
from adapt.evaluation.applied import random_control
from adapt.files import exists, is_file, is_folder
from adapt.models.adaptation_files import save_adaptation
from adapt.models.model import Model
from adapt.models.state import model_fingerprint
from adapt.studio.changes import Builder, Change
from adapt.studio.jobs import Job
from adapt.studio.recordings import Item
from adapt.studio.workspace import Workspace
from adapt.transcription.any_length import decode_any_length
from interventions.files import FileError
from interventions.fold import fold
from interventions.hooks import NeverRanError
from interventions.intervene import intervene
from interventions.intervention import Intervention
from interventions.store import describe, load, save

PROTECTED = 20  # examples on which the effect of a change is measured
MAX_SAVED = 500
DRAFT = "draft"  # the saved change to which the shown commands belong; it is replaced again and again
_NAME = re.compile(r"[^A-Za-z0-9_-]+")


class Changed:
    """Runs changes on the models of a workspace, in the thread of its jobs.

    Args:
        workspace: The models and the examples.
        folder: Where changes are saved.
    """

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace, self.folder = workspace, folder
        self.model = workspace.loaded.model
        self.builder = Builder(self.model)
        self._line: Interpolation | None = None
        self._copy: Model | None = None
        self._factors: dict[str, float] | None = None  # those that are written to the copy
        self._plain: dict[int, tuple[str, Example]] = {}  # answers of the unmodified model, by the example's id

    def groups(self) -> dict[str, list[Example]]:
        """Return the examples of each group: the sets, and the groups of the data."""
        found: dict[str, list[Example]] = {}
        for item in self.workspace.items:
            facts: Any = item.as_dict()["groups"]
            for name in (f"set: {item.set}", *(f"{key}: {value}" for key, value in facts.items())):
                found.setdefault(name, []).append(item.example)
        return found

    def blendable(self) -> tuple[list[str], str]:
        """Return the layers in which the two models differ; or none, and a sentence that says why."""
        try:
            return [name for name, own in self.line().layers.items() if own], ""
        except InputError as error:
            return [], str(error)

    def line(self) -> Interpolation:
        """Return the models between the other one (0) and the model (1). Raises InputError if there are none."""
        if self._line is None:
            base = self.workspace.against
            if base is None:
                raise InputError("Start the studio with against=BASE to blend the model with its base.")
            line = Interpolation(base.model, self.model, stored_factors(self.workspace.loaded, base))
            if not line.changed:
                raise InputError("No weight differs between the two models, so there is nothing to blend.")
            self._line = line
        return self._line

    def answer(self, item: Item, change: Change, job: Job) -> dict[str, Any]:
        """Answer an example: unmodified, changed, and with a random control of equal size.

        Returns:
            The texts, the words of the changed ones aligned with the unmodified one and with the reference, the seed of
            the control; whether anything changes ("changes"), and whether the control can only be the change itself
            ("same"), because one factor for all layers has no other order.
        """
        example = item.example
        interventions = self.interventions(change)
        if change.patch:
            self.builder.check_short(example)
        plain = self.plain([example], job)[0]
        job.tell(0.3)
        changed = self._decode([example], interventions, change.blend, job)[0]
        found: dict[str, Any] = {
            "unmodified": self._shown(example, plain, plain),
            "changed": self._shown(example, plain, changed),
            "control": None,
            "seed": change.seed,
            "changes": bool(interventions or change.blends),
            "same": not interventions and change.blends and len(set(self._by_layer(change).values())) == 1,
        }
        job.tell(0.6, found)
        if found["changes"]:
            control = self._decode([example], *self._control(interventions, change), job)[0]
            found = found | {"control": self._shown(example, plain, control)}
        return found

    def effect(self, change: Change, current: Item | None, job: Job) -> dict[str, Any]:
        """Measure a change on protected examples: words that changed, and errors before and after."""
        examples, which = self._protected(current)
        before = self.plain(examples, job)
        interventions, after = self.interventions(change), []
        for number, example in enumerate(examples):
            job.tell(number / len(examples))
            after += self._decode([example], interventions, change.blend, job)
        words = sum(len(text.split()) for text in before)
        changed = sum(_differences(*pair) for pair in zip(before, after, strict=True))
        labelled = [number for number, example in enumerate(examples) if example.text]
        task = self.model.task
        scores = [
            task.score([examples[number] for number in labelled], [texts[number] for number in labelled]).values()
            if labelled
            else {}
            for texts in (before, after)
        ]
        metric = task.metrics[0]
        return {
            "set": which, "examples": len(examples), "words": words, "changed": changed, "metric": metric.label,
            "percent": metric.percent, "before": scores[0].get(metric.key), "after": scores[1].get(metric.key),
            "labelled": len(labelled),
        }  # fmt: skip

    def interventions(self, change: Change) -> list[Intervention]:
        """Return the interventions of a change, the saved ones first. Raises InputError if it does not fit."""
        source = self.workspace.items.get(change.patch).example if change.patch else None
        stored = [] if not change.saved else self._stored(change.saved)
        return [
            *stored,
            *self.builder.patching(change, source),
            *self.builder.neurons(change),
            *self.builder.steering(change, self.groups()),
        ]

    def save(self, name: str, change: Change, into_weights: bool, replace: bool = False) -> str:
        """Write a change to files: interventions, and if factors differ from 1 or it is folded, an adaptation.

        Args:
            name: A name; its letters and digits become the names of the files.
            change: The change.
            into_weights: Whether to fold the interventions into the weights of the adaptation.
            replace: Whether a change of this name is replaced.

        Returns:
            The name of the files.

        Raises:
            InputError: The change does nothing, the name is taken or empty, or it cannot be folded.
        """
        stem = _NAME.sub("-", name).strip("-_")[:60]
        if not stem:
            raise InputError("Give a name with letters or digits.")
        file, model = self.folder / f"{stem}.safetensors", self.folder / stem
        if stem.lower() == DRAFT and not replace:
            raise InputError(f"'{DRAFT}' is where the commands that the page shows are kept. Choose another name.")
        if (exists(file) or exists(model)) and not replace:
            raise InputError(f"There is a change '{stem}' already. Choose another name.")
        if len(self.saved()) >= MAX_SAVED:
            raise InputError(f"{MAX_SAVED} changes are saved already. Remove files from {self.folder} first.")
        interventions = self.interventions(change)
        if not interventions and not change.blends:
            raise InputError("This changes nothing, so there is nothing to save.")
        mark = self.workspace.loaded.fingerprint
        written = None
        if into_weights or change.blends:
            written = copy.deepcopy(self._at(change.blend) if change.blends else self.model)
            if into_weights:
                _folded(written, interventions)
            mark = model_fingerprint(written)
        file.unlink(missing_ok=True)
        shutil.rmtree(model, ignore_errors=True)
        if written is not None:
            model.mkdir(parents=True)
            save_adaptation(model, self.workspace.loaded, written, blend=dict(change.blend))
        if interventions and not into_weights:
            save(file, interventions, mark, change=asdict(change))
        return stem

    def saved(self) -> list[dict[str, Any]]:
        """Return the saved changes: their names, what they hold, and whether they can be applied in the page."""
        if not is_folder(self.folder):
            return []
        rows = []
        names = {path.stem for path in self.folder.glob("*.safetensors")}
        names |= {path.parent.name for path in self.folder.glob("*/adaptation.json")}
        for name in sorted(names):
            file, model = self.folder / f"{name}.safetensors", is_folder(self.folder / name)
            operations, mark = _described(file) if is_file(file) else ([], "")
            applies = mark == self.workspace.loaded.fingerprint and not model
            rows.append({"name": name, "model": model, "operations": operations, "applies": applies})
        return rows

    def _stored(self, name: str) -> list[Intervention]:
        if name not in {one["name"] for one in self.saved() if one["applies"]}:
            raise InputError("There is no such saved change that applies to this model.")
        try:
            return list(load(self.folder / f"{name}.safetensors", self.workspace.loaded.fingerprint).values())
        except FileError as error:
            raise InputError(str(error)) from None

    def plain(self, examples: Sequence[Example], job: Job) -> list[str]:
        """Return the answers of the unmodified model, without corrections."""
        for example in examples:
            if id(example) not in self._plain:
                if len(self._plain) > 20_000:
                    self._plain.clear()
                self._plain[id(example)] = self._decode([example], [], {}, job)[0], example
        return [self._plain[id(example)][0] for example in examples]

    def _decode(
        self, examples: Sequence[Example], interventions: Sequence[Intervention], blend: Mapping[str, float], job: Job
    ) -> list[str]:
        model = self._at(blend) if any(factor != 1 for factor in blend.values()) else self.model
        try:
            with watched(model, job), intervene(model, *interventions):
                return decode_any_length(model, model.task, examples, Loader(), "")
        except NeverRanError as error:
            raise InputError(f"The model does not run there for this input: {error}") from None
        except ValueError as error:
            raise InputError(str(error)) from None

    def _at(self, blend: Mapping[str, float]) -> Model:
        line = self.line()
        if unknown := [name for name in blend if name not in line.layers]:
            raise InputError(f"The two models do not differ in a layer '{unknown[0][:80]}'.")
        if self._copy is None:
            self._copy = copy.deepcopy(self.model).eval()
        factors = {name: blend.get(name, 1.0) for name in line.layers}
        if factors != self._factors:
            self._factors = None  # until all weights are written
            line.write(self._copy, dict(blend))
            self._factors = factors
        return self._copy

    def _control(
        self, interventions: Sequence[Intervention], change: Change
    ) -> tuple[list[Intervention], dict[str, float]]:
        drawn = [random_control(one, change.seed + 1000 * number) for number, one in enumerate(interventions)]
        if not change.blends:
            return drawn, {}
        factors = self._by_layer(change)
        shuffled = Random(change.seed).sample(list(factors.values()), len(factors))
        return drawn, dict(zip(factors, shuffled, strict=True))

    def _by_layer(self, change: Change) -> dict[str, float]:
        """Return the factor of each layer in which the two models differ."""
        return {name: change.blend.get(name, 1.0) for name, own in self.line().layers.items() if own}

    def _protected(self, current: Item | None) -> tuple[list[Example], str]:
        given = self.workspace.protected
        if given is None:
            given = default_protected(self.workspace.loaded)
        if given:
            return evenly(list(given), PROTECTED), "protected examples"
        others = [item.example for item in self.workspace.items if current is None or item.id != current.id]
        if not others:
            raise InputError("There are no other examples to measure on. Start the studio with protected=...")
        return evenly(others, PROTECTED), "other examples of this page"

    def _shown(self, example: Example, plain: str, text: str) -> dict[str, Any]:
        pairs = [asdict(pair) for pair in align(plain, text)] if plain or text else []
        found = {"text": text, "aligned": pairs, "changed": sum(one["reference"] != one["hypothesis"] for one in pairs)}
        if not example.text:
            return found | {"errors": None}
        reference, answer = (self.model.task.compared_words([example], [one])[0] for one in (example.text, text))
        return found | {"errors": _differences(reference, answer)}


@contextmanager
def watched(model: Model, job: Job) -> Iterator[None]:
    """Let a person cancel a job between any two steps of a model, also inside a function of the library.

    Copies that the function makes of the model are watched too.
    """
    handles = [
        model.get_submodule(site.name).register_forward_pre_hook(lambda *_: job.check()) for site in model.sites[:2]
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _differences(first: str, second: str) -> int:
    if not first or not second:
        return len((first or second).split())
    return sum(pair.reference != pair.hypothesis for pair in align(first, second))


def _folded(model: Model, interventions: Sequence[Intervention]) -> None:
    before = set(model.state_dict())
    try:
        fold(model, *interventions)
    except ValueError as error:
        raise InputError(f"This cannot be folded: {error}") from None
    if created := sorted(set(model.state_dict()) - before):
        raise InputError(f"This cannot be folded: '{created[0]}' would have to be added to the model.")


def _described(file: Path) -> tuple[list[str], str]:
    try:
        header = describe(file)
        return [str(one["operation"]) for one in header["interventions"]], str(header["model"]["fingerprint"])
    except (FileError, KeyError, TypeError):
        return ["damaged"], ""
