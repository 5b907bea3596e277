"""A model's memory of corrections: stored next to the model, and applied whenever the model answers.

memory = ModelMemory.open(loaded)                       # or ModelMemory.create(loaded, protected_examples)
outcome = memory.correct(example)                       # an utterance or a sentence pair with its corrected text
with corrected(loaded): decode_examples(model, model.task, examples, loader)
memory.undo(outcome.number)
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adapt.corrections.attempt import (
    STRENGTH,
    add_correction,
    answered,
    answers_from,
    likely_answer,
    unwritable,
    written_answer,
)
from adapt.corrections.calibrate import measure_limits
from adapt.corrections.collect import collect_protected
from adapt.corrections.layers import correction_layer
from adapt.corrections.outcome import Outcome
from adapt.corrections.overrides import overriding
from adapt.corrections.paths import default_path, store_path
from adapt.corrections.same_input import same_input
from adapt.corrections.stored import as_written, check_records, protected_rows
from adapt.corrections.support import SupportLimits, unsupported
from adapt.corrections.verify import check_layer
from adapt.data.example import Example
from adapt.data.kinds import from_row, input_exists, to_row, with_text
from adapt.data.loader import Batch, Loader, collate
from adapt.data.normalisers import Normalise
from adapt.errors import InputError, as_input_errors
from adapt.models.encoder_cache import cached_encoder
from adapt.models.inference import eval_mode
from adapt.models.loaded import Loaded
from adapt.models.model import CTCModel, Model
from adapt.models.writing import same_words
from interventions.corrections.collection import Entry
from interventions.corrections.correct import CorrectionResult
from interventions.corrections.memory import Memory
from interventions.corrections.rows import Record
from interventions.corrections.search import Search
from interventions.corrections.store import CorrectionStore
from interventions.intervene import Edits

CHECKED = 20  # protected examples whose answers are compared before and after a correction


@contextmanager
def corrected(loaded: Loaded, corrections: Path | str = "auto") -> Iterator[None]:
    """Apply a model's stored corrections in the block, if there are any; "off" applies none.

    Raises:
        InputError: If the store belongs to another model or cannot be read, or a named store does not exist; or the
            model answers in 16 bits.
    """
    path = store_path(loaded, corrections)
    if path is None or (corrections == "auto" and not CorrectionStore.exists(path)):
        yield
        return
    memory = ModelMemory.open(loaded, path)
    if loaded.model.precision != "32":
        raise InputError(
            f"The corrections in '{path}' were made in 32 bits, and in precision={loaded.model.precision} the model "
            "would not recognise what was corrected. Give precision=32, or corrections=off."
        )
    with memory.on():
        yield


class ModelMemory:
    """A model together with the store of its corrections.

    Attributes:
        memory: the intervention that edits the model's activations. `on` applies it together with output overrides.
        limits: the limits beyond which corrections of speech models are refused.
    """

    def __init__(self, loaded: Loaded, store: CorrectionStore) -> None:
        self.model: Model = loaded.model
        self.store = store
        check_layer(self.model, store.layer, store.path)
        self.memory: Memory = store.memory()
        facts = store.facts
        self.limits = SupportLimits.from_facts(facts)
        self._device = next(self.model.parameters()).device
        checked, _ = protected_rows(facts, store.path)
        self._protected = [from_row(row) for row in checked]
        self._known: tuple[tuple[int, dict[str, str]], list[str]] | None = None  # protected answers, and when

    @classmethod
    def open(cls, loaded: Loaded, path: Path | None = None) -> "ModelMemory":
        """Open a model's memory. Raises InputError if the model has none, or the file belongs to another model."""
        with as_input_errors():
            return cls(loaded, CorrectionStore(path or default_path(loaded), loaded.fingerprint))

    @classmethod
    def create(
        cls,
        loaded: Loaded,
        protected: Sequence[Example],
        path: Path | None = None,
        site: str | None = None,
        strength: float | None = None,
        loader: Loader | None = None,
        limits: SupportLimits | None = None,
    ) -> "ModelMemory":
        """Create an empty memory for a model.

        Args:
            loaded: the model.
            protected: examples whose answers corrections should leave unchanged; their texts are not used.
            path: where to store the memory; None: the default of `store_path`.
            site: the layer that holds the corrections, a name or glob; None: the default of the model's family.
            strength: weight of the protected inputs in the ridge regression, in time steps; None: 300.
            loader: how to batch the protected examples; None: the defaults.
            limits: limits beyond which corrections of speech models are refused; None: calibrate them, which takes
                about as long as ten corrections.

        Raises:
            InputError: If the site does not exist or cannot hold corrections, or there are too few protected examples.
        """
        model, loader = loaded.model, loader or Loader()
        strength = STRENGTH if strength is None else strength
        with cached_encoder(model):
            examples = answered(model, protected, loader)
            layer = correction_layer(model, site)
            statistics = collect_protected(model, layer, examples)
            limits = limits or measure_limits(model, statistics, strength, examples)
        facts: dict[str, Any] = {
            "model": loaded.reference,
            **protected_facts(examples),
        }
        if limits is not None:
            facts["limits"] = limits.as_dict()
        with as_input_errors():
            memory = Memory.new(statistics, strength)
            store = CorrectionStore.create(path or default_path(loaded), loaded.fingerprint, memory, **facts)
            return cls(loaded, store)

    @property
    def site(self) -> str:
        """The name of the site that holds the corrections."""
        return self.memory.sites[0].name

    @contextmanager
    def on(self) -> Iterator[None]:
        """Apply the corrections to the model in the block, for the calls of this thread or asyncio task."""
        overrides = self._overrides()
        edits = Edits.of_block(self.model)
        try:
            edits.add(self.memory)
            with overriding(self.model, overrides):
                yield
        finally:
            edits.close()

    def records(self) -> list[Record]:
        """Return the stored corrections, the oldest first."""
        with as_input_errors():
            return check_records(self.store.records(), self.store.path)

    def undo(self, number: int) -> Record:
        """Remove a correction, and return its record. Raises InputError if no correction has this number."""
        with as_input_errors():
            record = self.store.remove(number)
            self.store.refresh(self.memory)
        return record

    @torch.inference_mode(False)
    @torch.enable_grad()
    def correct(
        self,
        example: Example,
        author: str = "",
        force: bool = False,
        search: Search | None = None,
        check_protected: bool = True,
        normalise: Normalise = "auto",
    ) -> Outcome:
        """Make the model answer an example with its text from now on, and store the correction.

        A text is refused if the model cannot output it, if the input does not support it (`unsupported`, and for CTC
        models a change larger than `limits.size`), or if no change of the layer makes the model decode it.

        Args:
            example: the example, with the corrected text.
            author: who makes the correction.
            force: store a refused text as an output override, which replaces the model's answer by the text whenever
                the answer is exactly the one that was corrected.
            search: settings of the search; None: the default for the layer's kind of steps.
            check_protected: compare the answers to some protected examples before and after the correction.
            normalise: a text that differs from the answer in style only, by this normaliser, is not corrected
                (`adapt.models.writing.choose_normaliser`); "none" corrects punctuation and the like too.

        Raises:
            InputError: The example cannot be read, or there is no such normaliser.
        """
        model, text = self.model, self.model.task.normalise(example.text)
        read = model.reader.read(example)
        refused = unwritable(model, example, len(read))
        if refused:
            return Outcome(None, text, "", "", f"the text cannot be written: {refused}")
        batch = collate([(example, read)]).to(self._device)
        with eval_mode(model), cached_encoder(model):
            itself = {one for one, other in enumerate(self._protected) if same_input(model, other, example)}
            with self.on():
                written = written_answer(model, batch)
                before = model.task.normalise(written)
                others = self._answers(itself) if check_protected else []
            if before == text:
                return Outcome(None, text, before, before)
            if same_words(model, example, before, normalise):
                return Outcome(None, text, before, before, style=True)
            started = time.perf_counter()
            refused, result = self._attempt(example, batch, before, text, search, itself)
            if refused and not force:
                return Outcome(None, text, before, before, refused, seconds=time.perf_counter() - started)
            facts = {
                "example": to_row(example),
                "before": before,
                "text": text,
                **as_written(example, written, model.task.normalise),
            }
            if refused:
                facts["override"] = refused
            number = self._store(None if refused or result is None else result.entry, author, facts)
            seconds = time.perf_counter() - started
            with self.on():
                after = likely_answer(model, batch)
                others_now = self._answers(itself) if check_protected else []
        outcome = Outcome(
            number,
            text,
            before,
            after,
            override=bool(refused),
            changed=sum(one != other for one, other in zip(others, others_now, strict=True)),
            checked=len(others),
            itself=bool(itself),
            seconds=seconds,
            bytes=self.store.record(number).bytes,
        )
        if refused or result is None or result.entry is None:
            return outcome
        touched = int(result.change.touched.sum())
        step = self.memory.sites[0].step
        unit = step.unit if step is not None else "s"
        return replace(outcome, touched=touched, steps=len(result.entry.values), size=result.size, unit=unit)

    def _attempt(
        self, example: Example, batch: Batch, before: str, text: str, search: Search | None, itself: Collection[int]
    ) -> tuple[str, CorrectionResult | None]:
        """Return why the text is refused ("" if it is accepted), and the result of the search if one was made."""
        others = [one for number, one in enumerate(self._protected) if number not in itself]
        reason = unsupported(self.model, batch, before, others, self.limits)
        if reason:
            return f"the input does not support it: {reason}", None
        number = max(self.memory.entries, default=0) + 1
        result = add_correction(self.model, self.memory, number, batch, text, search)
        if result.entry is None:
            return self._contradiction(example) or self._not_found(result), result
        self.memory.remove(number)  # the store returns its own number
        if isinstance(self.model, CTCModel) and result.size > self.limits.size:
            return (
                f"the input does not support it: the output of '{self.site}' would have to change by {result.size:.2f} "
                f"of its usual scale (at most {self.limits.size:.2f}). Check that this is what was said."
            ), result
        return "", result

    def _contradiction(self, example: Example) -> str:
        """Return a message if another correction has the same input, since only one of them can hold; otherwise ""."""
        row = to_row(with_text(example, ""))
        for record in self.records():
            known = record.facts.get("example") if record.bytes else None
            if known and to_row(with_text(from_row(known), "")) == row:
                return (
                    f"correction {record.number} of the same input gives '{record.facts['text']}', and only one of "
                    f"them can hold. Remove it first: innertune corrections undo {record.number}."
                )
        return ""

    def _not_found(self, result: CorrectionResult) -> str:
        loss, unit = result.change.loss, "character" if isinstance(self.model, CTCModel) else "token"
        if loss <= 0.5:
            return (
                f"the text became likely (a loss of {loss:.2f} per {unit}), but after all changes that the memory can "
                f"store at '{self.site}' the model still writes another one."
            )
        return f"no change of '{self.site}' makes the model output it (the loss stays at {loss:.1f} per {unit})."

    def _store(self, entry: Entry | None, author: str, facts: Mapping[str, Any]) -> int:
        with as_input_errors():
            number = self.store.add(entry, author, **facts)
            self.store.refresh(self.memory)
        return number

    def _answers(self, but: Collection[int] = ()) -> list[str]:
        """Return the answers to the protected examples with the corrections as they are now, but not to some."""
        present = [number for number, one in enumerate(self._protected) if input_exists(one)]
        answers = self._all_answers([self._protected[number] for number in present])
        return [answer for number, answer in zip(present, answers, strict=True) if number not in but]

    def _all_answers(self, examples: Sequence[Example]) -> list[str]:
        state = self.memory.corrections.version, self._overrides()
        if self._known is None or len(self._known[1]) != len(examples):
            guesses = [example.text for example in examples]  # the answers without corrections
        elif self._known[0] == state:
            return self._known[1]
        else:
            guesses = self._known[1]
        answers = answers_from(self.model, examples, guesses)
        self._known = state, answers
        return answers

    def _overrides(self) -> dict[str, str]:
        return {record.facts["before"]: record.facts["text"] for record in self.records() if _is_override(record)}

    def protected_examples(self) -> list[Example]:
        """Return the stored protected examples whose audio still exists."""
        return [example for example in self._protected if input_exists(example)]


def protected_facts(examples: Sequence[Example]) -> dict[str, Any]:
    """Return what a store keeps of protected examples: those to check after each correction, and the others."""
    checked = range(0, len(examples), max(1, len(examples) // CHECKED))[:CHECKED]
    return {
        "protected": [to_row(examples[number]) for number in checked],
        "others": [to_row(one) for number, one in enumerate(examples) if number not in checked],
        "examples": len(examples),
    }


def _is_override(record: Record) -> bool:
    return bool(record.facts.get("override") or record.facts.get("hint"))  # "hint" in stores of version 0.1
