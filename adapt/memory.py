"""What a model's user has corrected: kept beside the model, and on whenever that model answers.

memory = ModelMemory.open(loaded)                       # or ModelMemory.create(loaded, protected_examples)
outcome = memory.correct(example)                       # an utterance or a sentence pair with its corrected text
with corrected(loaded): answers(model, model.task, examples, loader)
memory.undo(outcome.number)
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader, collate
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.inference import answers, eval_mode
from adapt.introspect.activations import own_steps
from adapt.models.checkpoint import Loaded
from adapt.models.ctc import ctc_greedy_loss
from adapt.models.model import Model
from adapt.progress import track
from interventions.capture import capture
from interventions.correct import Entry, Memory, Search, correct
from interventions.correct_layer import AffineLayer, layer_inputs
from interventions.correct_protect import Protected
from interventions.correct_store import CorrectionStore, Record
from interventions.files import FileError
from interventions.intervene import Edits
from interventions.sites import Site

LIMIT = 10.0  # nats a character
WATCHED = 20  # protected examples whose answers are compared before and after a correction
STRENGTH = 300.0
# Where a step is a token, a change must go further: what is added is normalised away behind the layer.
SEARCHES = {"s": Search(), "token": Search(rate=0.2, penalty=0.005, margin=0.6)}
# In each family: where corrections are kept unless somebody says otherwise, at which share of the depth (see README).
_PLACES = (
    ("*.encoder_attn.out_proj", 1.0),  # decoders as BART's, Marian's and Whisper's
    ("*.EncDecAttention.o", 1.0),  # T5's
    ("*.crossattention.output.dense", 1.0),  # BERT's
    ("*.feature_projection.projection", 0.0),  # encoders as wav2vec2's
    ("*.acoustic_model.*", 0.3),  # Wav2Letter's convolutions
)


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
    if path is None or (corrections == "auto" and not path.is_file()):
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
        self._watched = [_from_row(row) for row in store.facts["protected"]]

    @classmethod
    def open(cls, loaded: Loaded, path: Path | None = None) -> "ModelMemory":
        """The memory that a model has. Raises InputError where it has none, or the file is another's."""
        try:
            return cls(loaded, CorrectionStore(path or store_path(loaded), loaded.fingerprint))
        except FileError as error:
            raise InputError(str(error)) from None

    @classmethod
    def create(
        cls,
        loaded: Loaded,
        protected: Sequence[Example],
        path: Path | None = None,
        site: str | None = None,
        strength: float = STRENGTH,
        loader: Loader | None = None,
    ) -> "ModelMemory":
        """A new, empty memory of a model, at `site` (None: the family's usual one).

        The model's answers to the `protected` examples, whose texts are not looked at, are what corrections should
        leave alone. `strength`: as how many frames or tokens of theirs each direction of the layer's inputs is held.

        Raises:
            InputError: there is no such site, it cannot hold corrections, or too little is protected.
        """
        model, loader = loaded.model, loader or Loader()
        texts = answers(model, model.task, protected, loader, "answering")
        answered = [with_text(example, text) for example, text in zip(protected, texts, strict=True) if text]
        layer = layer_of(model, site)
        known = protect(model, layer, answered)
        rows = [_to_row(example) for example in answered[:: max(1, len(answered) // WATCHED)][:WATCHED]]
        store = CorrectionStore.create(
            path or store_path(loaded), loaded.fingerprint, Memory.new(known, strength),
            model=loaded.reference, protected=rows, examples=len(answered),
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
        return self.store.records()

    def undo(self, number: int) -> Record:
        """Take a correction back. Raises InputError where there is none of that number."""
        try:
            record = self.store.remove(number)
        except FileError as error:
            raise InputError(str(error)) from None
        self.store.refresh(self.memory)
        return record

    def correct(
        self, example: Example, author: str = "", force: bool = False, search: Search | None = None, watch: bool = True
    ) -> Outcome:
        """Have the model answer an example with its text from now on, and keep that.

        Refused is a text that the model cannot write, that its input does not support (`unsupported`), or that no
        change at the layer makes it decode. With `force` such a text is kept as a hint: where the model's answer is the
        very one that was corrected, the text is given in its place.
        """
        model, task = self.model, self.model.task
        read = model.reader.read(example)
        text = task.tidy(example.text)
        refused = model.unfit(example, len(read), training=True) if text else "there is no text."
        if refused:
            return Outcome(None, text, "", "", f"the text cannot be written: {refused}")
        batch = collate([(example, read)]).to(self._device)
        with eval_mode(model):
            with self.on():
                before = self._answer(batch)
                watched = self._answers() if watch else []
            if before == text:
                return Outcome(None, text, before, before)
            started = time.perf_counter()
            refused = unsupported(model, batch, before, self._watched)
            found = None if refused else self._search(batch, text, search)
            if found is not None and found.entry is None:
                refused = (
                    f"no change of '{self.memory.sites[0].name}' makes the model decode it (its loss stays at "
                    f"{found.change.loss:.1f} a {'character' if hasattr(model, 'blank') else 'token'})."
                )
            if refused and not force:
                seconds = time.perf_counter() - started
                return Outcome(None, text, before, before, f"the input does not support it: {refused}", seconds=seconds)
            facts = {"example": _to_row(example), "before": before, "text": text}
            facts |= {"hint": refused} if refused else {}
            number = self._keep(None if refused else found.entry, author, facts)
            seconds = time.perf_counter() - started
            with self.on():
                after = self._answer(batch)
                changed = sum(
                    one != other for one, other in zip(watched, self._answers() if watch else [], strict=True)
                )
        told = (
            {} if refused else {"touched": found.change.touched, "steps": len(found.entry.values), "size": found.size}
        )
        size = self.store.record(number).bytes
        return Outcome(
            number, text, before, after, hint=bool(refused), changed=changed, watched=len(watched), seconds=seconds,
            bytes=size, **told,
        )  # fmt: skip

    def _search(self, batch: Batch, text: str, search: Search | None) -> Any:
        model, task = self.model, self.model.task
        layer = self.memory.protected.layer
        steps = int(own_steps(model, batch)(layer.site))
        search = search or SEARCHES[layer.site.step.unit if layer.site.step else "s"]
        new = max(self.memory.entries, default=0) + 1
        loss = ctc_greedy_loss if hasattr(model, "blank") else task.loss
        found = correct(
            model, self.memory, new, lambda: loss(model, batch), lambda: self._answer(batch) == text, steps, search
        )
        if found.entry is not None:
            self.memory.remove(new)  # it comes back with the number that the store gives it
        return found

    def _keep(self, entry: Entry | None, author: str, facts: Mapping[str, Any]) -> int:
        number = self.store.add(entry, author, **facts)
        self.store.refresh(self.memory)
        return number

    def _answer(self, batch: Batch) -> str:
        with torch.no_grad():
            return self.model.task.tidy(self.model.task.decode(self.model, batch)[0])

    def _answers(self) -> list[str]:
        readable = [example for example in self._watched if _is_there(example)]
        return answers(self.model, self.model.task, readable, Loader(), "protected") if readable else []

    def evaluate(self) -> dict[str, Any]:
        """Whether each correction still holds, its input alone and in batches; and what protected answers became.

        Inputs whose audio is no longer there are left out.
        """
        model, task = self.model, self.model.task
        records = [record for record in self.records() if _is_there(_from_row(record.facts["example"]))]
        examples = [_from_row(record.facts["example"]) for record in records]
        texts = [record.facts["text"] for record in records]
        readable = [example for example in self._watched if _is_there(example)]
        with self.on():
            alone = [task.tidy(a) for a in answers(model, task, examples, Loader(batch_seconds=0, batch_tokens=0))]
            batched = [task.tidy(answer) for answer in answers(model, task, examples, Loader())]
            kept = answers(model, task, readable, Loader())
        bare = answers(model, task, readable, Loader())
        return {
            "corrections": len(records),
            "held": [text == answer for text, answer in zip(texts, alone, strict=True)],
            "held_in_batches": [text == answer for text, answer in zip(texts, batched, strict=True)],
            "numbers": [record.number for record in records],
            "protected": len(readable),
            "protected_unchanged": sum(one == other for one, other in zip(kept, bare, strict=True)),
        }


def protect(model: Model, layer: AffineLayer, examples: Sequence[Example]) -> Protected:
    """What corrections at a layer should leave alone: its inputs in these examples, with the texts they have.

    Raises:
        InputError: there are too few of them.
    """
    device = next(model.parameters()).device
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    with eval_mode(model), torch.no_grad():
        for example in track(examples, "protecting"):
            # One by one, so that no padding is among them.
            batch = collate([(example, model.reader.read(example))]).to(device)
            with layer_inputs(model, layer) as found, capture(model, layer.site) as acts:
                model.task.loss(model, batch)
            steps = int(own_steps(model, batch)(layer.site))
            inputs.append(found[0][0][: layer.needed(steps)].cpu())
            outputs.append(acts[layer.site][0][:steps].cpu())
    if sum(map(len, outputs)) < 100:
        raise InputError(
            f"Protected are {len(examples)} examples that the model answers, {sum(map(len, outputs))} steps of "
            f"'{layer.site.name}' in all. Give more, some minutes of audio or a hundred sentences: protected=..."
        )
    return Protected.fit(layer, inputs, outputs)


@torch.no_grad()
def unsupported(model: Model, batch: Batch, before: str, others: Sequence[Example]) -> str:
    """Why a corrected text, that of the batch's one example, is not one of its input; "" where it may be.

    - CTC: the text costs `LIMIT` nats more than the model's own answer `before`, for each character that they differ
      in. What is said, badly heard, costs some 4; another word in its place some 20 (README).
    - Speech encoder-decoders: the text is no likelier here than on `others` (some of the protected examples).
    - Translation: the text is the source itself; or it takes fewer tokens as a source than as a target, where a model
      has a tokenizer for each (Marian): then it is in the source's language, or at least not in the target's.
    """
    (example,) = batch.examples
    task, text = model.task, model.task.tidy(example.text)
    if isinstance(example, Pair):
        as_source, as_target = (len(read) for read in (model.reader.source(Pair(text)), model.reader.target(text)))
        if text == task.tidy(example.source):
            return "it is the source itself."
        own_tokenizers = model.reader.source(Pair(example.source)) != model.reader.target(example.source)
        if own_tokenizers and as_source < as_target:
            return (
                f"it takes {as_source} tokens as a sentence of the source language and {as_target} as one of the "
                "target language, so that it seems not to be in the target's."
            )
        return ""

    def loss(of: Example) -> float:
        read = model.reader.read(of)
        return float(task.loss(model, collate([(with_text(of, text), read)]).to(batch.inputs.device)))

    if hasattr(model, "blank"):
        answered = replace(batch, examples=[with_text(example, before)])
        own = float(task.loss(model, answered)) * len(before) if before else 0.0
        more = (float(task.loss(model, batch)) * len(text) - own) / max(1, _differing(before, text))
        if more > LIMIT or not isfinite(more):
            return (
                f"each character that differs from '{before}' costs {more:.0f} nats (at most {LIMIT:g} where the words "
                "are said, only badly heard). Is that what is said?"
            )
        return ""
    heard = [example for example in others if _is_there(example)][:3]
    if heard and loss(example) >= sum(map(loss, heard)) / len(heard):
        return "the text is no likelier for this audio than for others. Is that what is said?"
    return ""


def _differing(one: str, other: str) -> int:
    """How many characters two texts differ in."""
    pieces = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in pieces if kind != "equal")


def layer_of(model: Model, name: str | None = None) -> AffineLayer:
    """The layer at which a model's corrections are kept; `name` is a glob, None the family's usual one. InputError."""
    there = [site for site in model.sites if _holds(model, site)]
    if name is not None:
        chosen = [site for site in model.sites if fnmatchcase(site.name, name)]
        if len(chosen) != 1:
            raise InputError(
                f"site={name} is {len(chosen)} sites of this model, and corrections are kept at one. Give one of: "
                f"{', '.join(site.name for site in there)}."
            )
        try:
            return AffineLayer.of(model, chosen[0])
        except ValueError as error:
            raise InputError(f"site={name}: {error}") from None
    for pattern, depth in _PLACES:
        found = [site for site in there if fnmatchcase(site.name, pattern)]
        if found:
            return AffineLayer.of(model, found[round(depth * (len(found) - 1))])
    raise InputError(
        f"Say where corrections are to be kept: site=..., one of {', '.join(site.name for site in there)}."
    )


def _holds(model: Model, site: Site) -> bool:
    try:
        AffineLayer.of(model, site)
    except ValueError:
        return False
    return True


def _hinted(texts: list[str], hints: Mapping[str, str]) -> list[str]:
    return [hints.get(" ".join(text.split()), text) for text in texts]


def with_text(example: Example, text: str) -> Example:
    """An example with another text."""
    return replace(example, target=text) if isinstance(example, Pair) else replace(example, text=text)


def _is_there(example: Example) -> bool:
    return isinstance(example, Pair) or example.audio_filepath.is_file()


def _to_row(example: Example) -> dict[str, Any]:
    if isinstance(example, Pair):
        return {"source": example.source, "target": example.target}
    audio = str(example.audio_filepath.absolute())
    return {"audio": audio, "text": example.text, "offset": example.offset, "duration": example.duration}


def _from_row(row: Mapping[str, Any]) -> Example:
    if "source" in row:
        return Pair(row["source"], row["target"])
    return Utterance(Path(row["audio"]), row["text"], offset=row["offset"], duration=row["duration"])
