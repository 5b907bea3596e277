"""What a model's user has corrected: kept beside the model, and on whenever that model answers.

memory = ModelMemory.open(loaded)                       # or ModelMemory.create(loaded, protected_examples)
outcome = memory.correct(example)                       # an utterance or a sentence pair with its corrected text
with corrected(loaded): decode_examples(model, model.task, examples, loader)
memory.undo(outcome.number)
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adapt.corrections.collect import protect
from adapt.corrections.layers import layer_of
from adapt.corrections.support import LARGEST, unsupported
from adapt.data.example import Example
from adapt.data.kinds import from_row, input_exists, to_row, with_text
from adapt.data.loader import Batch, Loader, collate
from adapt.errors import as_input_errors
from adapt.introspect.activations import valid_lengths
from adapt.models.ctc import ctc_greedy_loss
from adapt.models.inference import decode_examples, eval_mode
from adapt.models.loaded import Loaded
from adapt.models.model import CTCModel, Model
from interventions.corrections.collection import Entry
from interventions.corrections.correct import CorrectionResult, correct
from interventions.corrections.memory import Memory
from interventions.corrections.search import Search
from interventions.corrections.store import CorrectionStore, Record
from interventions.intervene import Edits

WATCHED = 20  # protected examples whose answers are compared before and after a correction
STRENGTH = 300.0  # unless somebody says otherwise
# Where a step is a token, a change must go further, as what is added is normalised away behind the layer; and positions
# of a sentence are so alike that no map of their keys gives each what it needs.
SEARCHES = {"s": Search(), "token": Search(rate=0.03, penalty=0.005, margin=0.1, residual_scale=2.0)}


@dataclass(frozen=True)
class Outcome:
    """What became of one correction.

    `number` is what it is kept as, None where it is not kept: then `refused` says why, or the answer was right already.
    `before` and `after` are the model's answers. Of the `steps` frames (or decoder positions) of its input `touched`
    were changed, by `size` (root mean square, beside what the layer usually puts out). `changed` of `watched` protected
    examples are answered otherwise than just before. `seconds` is what finding and keeping it took, `bytes` what it
    takes in the store. `hint` says that it edits nothing, and only stands in for the very answer that was corrected.
    """

    number: int | None
    text: str
    before: str
    after: str
    refused: str = ""
    hint: bool = False
    touched: int = 0
    steps: int = 0
    size: float = 0.0
    changed: int = 0
    watched: int = 0
    seconds: float = 0.0
    bytes: int = 0

    @property
    def fixed(self) -> bool:
        """Whether the model, decoding freely, answers with the corrected text."""
        return self.after == self.text


def unwritable(model: Model, example: Example, length: int) -> str:
    """Why a model cannot write an example's text, with an input of that length as its reader has it; "" if it can."""
    return (
        (model.rejection_reason(example, length, training=True) or "")
        if model.task.normalise(example.text)
        else "there is no text."
    )


def answer(model: Model, batch: Batch) -> str:
    """A model's answer to the only example of a batch, as answers are compared."""
    with torch.no_grad():
        return model.task.normalise(model.task.decode(model, batch)[0])


def answered(model: Model, examples: Sequence[Example], loader: Loader) -> list[Example]:
    """Examples with the model's own answers for texts, without those that it answers with nothing."""
    texts = decode_examples(model, model.task, examples, loader, "answering")
    return [with_text(example, text) for example, text in zip(examples, texts, strict=True) if text]


def put(
    model: Model, memory: Memory, number: int, batch: Batch, text: str, search: Search | None = None
) -> CorrectionResult:
    """Put a correction of the only example of a batch into a memory, on no model at present, that no file need have.

    `text` is tidy. `search` None is the one for what a step of the layer is.
    """
    layer = memory.protected.layer
    steps = int(valid_lengths(model, batch)(layer.site))
    search = search or SEARCHES[layer.site.step.unit if layer.site.step else "s"]
    loss = ctc_greedy_loss if isinstance(model, CTCModel) else model.task.loss
    right = lambda: answer(model, batch) == text  # noqa: E731
    return correct(model, memory, number, lambda: loss(model, batch), right, steps, search)


def store_path(loaded: Loaded, corrections: str = "auto") -> Path | None:
    """Where a model's corrections are: "auto" is beside an adaptation, for other models a file named by fingerprint
    below $INNERTUNE_DATA or ~/.local/share/innertune; "off" is nowhere; anything else is the file itself.
    """
    if corrections != "auto":
        return None if corrections == "off" else Path(corrections).expanduser()
    place = Path(loaded.reference)
    for folder in (place / "adaptation", place, place.parent):
        if (folder / "adaptation.json").is_file():
            return folder / "corrections.db"
    data = os.environ.get("INNERTUNE_DATA") or Path.home() / ".local" / "share" / "innertune"
    return Path(data).expanduser() / "corrections" / f"{loaded.fingerprint[:16]}.db"


@contextmanager
def corrected(loaded: Loaded, corrections: str = "auto") -> Iterator[None]:
    """Have a model answer with its user's corrections, where it has any; "off": without them.

    Raises:
        InputError: the store is another model's or cannot be read, or is named and not there.
    """
    path = store_path(loaded, corrections)
    if path is None or (corrections == "auto" and not CorrectionStore.exists(path)):
        yield
        return
    memory = ModelMemory.open(loaded, path)
    with memory.on():
        yield


class ModelMemory:
    """A model with the store of its corrections.

    `memory` is what edits the model's activations, an intervention; `on` puts it on, with the hints besides.
    """

    def __init__(self, loaded: Loaded, store: CorrectionStore) -> None:
        self.model: Model = loaded.model
        self.store = store
        self.memory: Memory = store.memory()
        self._device = next(self.model.parameters()).device
        self._watched = [from_row(row) for row in store.facts["protected"]]

    @classmethod
    def open(cls, loaded: Loaded, path: Path | None = None) -> "ModelMemory":
        """The memory that a model has. Raises InputError where it has none, or the file is another's."""
        with as_input_errors():
            return cls(loaded, CorrectionStore(path or store_path(loaded), loaded.fingerprint))

    @classmethod
    def create(
        cls,
        loaded: Loaded,
        protected: Sequence[Example],
        path: Path | None = None,
        site: str | None = None,
        strength: float | None = None,
        loader: Loader | None = None,
    ) -> "ModelMemory":
        """A new, empty memory of a model, at `site` (None: the family's usual one).

        The model's answers to the `protected` examples, whose texts are not looked at, are what corrections should
        leave alone. `strength`: as how many frames or tokens of theirs each direction of the layer's inputs is held
        (None: 300).

        Raises:
            InputError: there is no such site, it cannot hold corrections, or too little is protected.
        """
        model, loader = loaded.model, loader or Loader()
        told = answered(model, protected, loader)
        layer = layer_of(model, site)
        known = protect(model, layer, told)
        strength = STRENGTH if strength is None else strength
        rows = [to_row(example) for example in told[:: max(1, len(told) // WATCHED)][:WATCHED]]
        with as_input_errors():
            store = CorrectionStore.create(
                path or store_path(loaded), loaded.fingerprint, Memory.new(known, strength),
                model=loaded.reference, protected=rows, examples=len(told),
            )  # fmt: skip
            return cls(loaded, store)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Have the model answer with the corrections, for a block."""
        model = self.model
        hints = {record.facts["before"]: record.facts["text"] for record in self.records() if record.facts.get("hint")}
        task, own = model.task, "task" in vars(model)
        edits = Edits(model)
        try:
            edits.add(self.memory)
            if hints:
                model.task = replace(task, decode=lambda model, batch: _hinted(task.decode(model, batch), hints))
            yield
        finally:
            edits.clear()
            if own:
                model.task = task
            else:
                vars(model).pop("task", None)

    def records(self) -> list[Record]:
        """The corrections, the oldest first."""
        with as_input_errors():
            return self.store.records()

    def undo(self, number: int) -> Record:
        """Take a correction back. Raises InputError where there is none of that number."""
        with as_input_errors():
            record = self.store.remove(number)
            self.store.refresh(self.memory)
        return record

    @torch.inference_mode(False)
    @torch.enable_grad()
    def correct(
        self, example: Example, author: str = "", force: bool = False, search: Search | None = None, watch: bool = True
    ) -> Outcome:
        """Have the model answer an example with its text from now on, and keep that.

        Refused is a text that the model cannot write, that its input does not support (`unsupported`), that no change
        at the layer makes it decode, or in CTC models only one larger than `LARGEST`. With `force` such a text is kept
        as a hint: where the model's answer is the very one that was corrected, the text is given in its place.
        """
        model, task = self.model, self.model.task
        read = model.reader.read(example)
        text = task.normalise(example.text)
        refused = unwritable(model, example, len(read))
        if refused:
            return Outcome(None, text, "", "", f"the text cannot be written: {refused}")
        batch = collate([(example, read)]).to(self._device)
        with eval_mode(model):
            with self.on():
                before = answer(model, batch)
                watched = self._answers() if watch else []
            if before == text:
                return Outcome(None, text, before, before)
            started = time.perf_counter()
            refused = unsupported(model, batch, before, self._watched)
            if refused:
                refused = f"the input does not support it: {refused}"
            found = None if refused else self._search(batch, text, search)
            if found is not None and found.entry is None:
                refused = self._contradicted(example) or self._unfound(found)
            elif found is not None and isinstance(model, CTCModel) and found.size > LARGEST:
                refused = (
                    f"the input does not support it: '{self.memory.sites[0].name}' would have to change by "
                    f"{found.size:.1f} times what it usually puts out (at most {LARGEST:g}). Is that what is said?"
                )
            if refused and not force:
                return Outcome(None, text, before, before, refused, seconds=time.perf_counter() - started)
            facts = {"example": to_row(example), "before": before, "text": text}
            facts |= {"hint": refused} if refused else {}
            number = self._keep(None if refused else found.entry, author, facts)
            seconds = time.perf_counter() - started
            with self.on():
                after = answer(model, batch)
                changed = sum(
                    one != other for one, other in zip(watched, self._answers() if watch else [], strict=True)
                )
        told = (
            {}
            if refused
            else {"touched": int(found.change.touched.sum()), "steps": len(found.entry.values), "size": found.size}
        )
        size = self.store.record(number).bytes
        return Outcome(
            number, text, before, after, hint=bool(refused), changed=changed, watched=len(watched), seconds=seconds,
            bytes=size, **told,
        )  # fmt: skip

    def _search(self, batch: Batch, text: str, search: Search | None) -> CorrectionResult:
        new = max(self.memory.entries, default=0) + 1
        found = put(self.model, self.memory, new, batch, text, search)
        if found.entry is not None:
            self.memory.remove(new)  # it comes back with the number that the store gives it
        return found

    def _contradicted(self, example: Example) -> str:
        """Which correction there is of the same input, whose inputs at the layer are the same: one alone can hold."""
        own = to_row(with_text(example, ""))
        for record in self.records():
            if record.bytes and to_row(with_text(from_row(record.facts["example"]), "")) == own:
                return (
                    f"correction {record.number} makes '{record.facts['text']}' of this very input, and one alone can "
                    f"hold. Take that back first: innertune corrections undo {record.number}."
                )
        return ""

    def _unfound(self, found: CorrectionResult) -> str:
        where, loss = self.memory.sites[0].name, found.change.loss
        if loss <= 0.5:
            return (
                f"no change of '{where}' makes the model decode it freely and lasts in the memory (the loss comes down "
                f"to {loss:.2f} a {self._piece})."
            )
        return f"no change of '{where}' makes the model decode it (its loss stays at {loss:.1f} a {self._piece})."

    @property
    def _piece(self) -> str:
        return "character" if isinstance(self.model, CTCModel) else "token"

    def _keep(self, entry: Entry | None, author: str, facts: Mapping[str, Any]) -> int:
        with as_input_errors():
            number = self.store.add(entry, author, **facts)
            self.store.refresh(self.memory)
        return number

    def _answers(self) -> list[str]:
        readable = [example for example in self._watched if input_exists(example)]
        return decode_examples(self.model, self.model.task, readable, Loader(), "protected") if readable else []

    def evaluate(self) -> dict[str, Any]:
        """Whether each correction still holds, its input alone and in batches; and what protected answers became.

        Inputs whose audio is no longer there are left out.
        """
        model = self.model
        records = [record for record in self.records() if input_exists(from_row(record.facts["example"]))]
        examples = [from_row(record.facts["example"]) for record in records]
        texts = [record.facts["text"] for record in records]
        readable = [example for example in self._watched if input_exists(example)]
        with self.on():
            task = model.task  # with the hints
            alone = [
                task.normalise(a)
                for a in decode_examples(model, task, examples, Loader(batch_seconds=0, batch_tokens=0))
            ]
            batched = [task.normalise(answer) for answer in decode_examples(model, task, examples, Loader())]
            kept = decode_examples(model, task, readable, Loader())
        bare = decode_examples(model, model.task, readable, Loader())
        return {
            "corrections": len(records),
            "held": [text == answer for text, answer in zip(texts, alone, strict=True)],
            "held_in_batches": [text == answer for text, answer in zip(texts, batched, strict=True)],
            "numbers": [record.number for record in records],
            "protected": len(readable),
            "protected_unchanged": sum(one == other for one, other in zip(kept, bare, strict=True)),
        }


def _hinted(texts: list[str], hints: Mapping[str, str]) -> list[str]:
    return [hints.get(" ".join(text.split()), text) for text in texts]
