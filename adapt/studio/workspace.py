"""What a studio works on: the models, the examples, the corrections, and the acts that rooms offer.

Each act is a call of the library. The thread of `jobs` is the only one that uses the models.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from adapt.comparison.words import align
from adapt.corrections.correct import open_or_create
from adapt.corrections.manage import list_corrections, undo_correction
from adapt.corrections.model_memory import ModelMemory, corrected
from adapt.corrections.outcome import Outcome
from adapt.corrections.paths import store_path
from adapt.data.example import Example
from adapt.data.kinds import with_text
from adapt.data.loader import Loader
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.introspect.attribution.attribution import Attribution, attribute
from adapt.introspect.attribution.runners_up import runners_up
from adapt.introspect.attribution.words import output_words
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import CTCModel
from adapt.models.writing import normalising
from adapt.studio.jobs import Job
from adapt.studio.lens import Lenses
from adapt.studio.recordings import Item, Items
from adapt.transcription.transcribe import is_long, transcribe_recordings, transcribe_whole
from adapt.transcription.transcript import Transcript
from interventions.corrections.store import CorrectionStore

STEPS, WINDOW_STEPS = 24, 8  # of integrated gradients: pages wait for them, and a window of 30 s takes long
WHICH = ("model", "against")


@dataclass
class Workspace:
    """The state that all pages of a studio share.

    Args:
        loaded: The model.
        against: Another model, such as the base or an adaptation, to compare with; None without one.
        items: The examples.
        corrections: "auto" for the model's own store, "off", or a file.
        protected: Examples whose answers corrections should leave unchanged; None for an embedded model's own.
    """

    loaded: Loaded
    against: Loaded | None
    items: Items
    corrections: str = "auto"
    protected: list[Example] | None = None
    _answers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.lenses = Lenses(self.items)

    @property
    def store(self) -> Path | None:
        """The file of the corrections; None if they are off."""
        return store_path(self.loaded, self.corrections)

    def model(self, which: str) -> Loaded:
        """Return the model ("model") or the one to compare with ("against"). Raises InputError if there is none."""
        found = {"model": self.loaded, "against": self.against}.get(which)
        if found is None:
            raise InputError(f"There is no model '{which}' here. `against=` of `innertune studio` names a second one.")
        return found

    def known(self, item: Item, which: str = "model") -> dict[str, Any] | None:
        """Return the answer to an item if it is known already."""
        return self._answers.get((item.id, which))

    def answer(self, item: Item, which: str, job: Job) -> dict[str, Any]:
        """Answer an item, and remember the answer until the corrections change.

        Returns:
            The text; the words with start, end (seconds) and confidence, if they have times; the alignment with the
            reference; and the number of errors, if there is a reference.
        """
        loaded = self.model(which)
        with self.with_corrections(which):
            found = _answer(loaded, item.example, job)
        found |= _compared(loaded, item.example, found["text"])
        with self._lock:
            self._answers[item.id, which] = found
        return found

    def why(self, item: Item, which: str, number: int, job: Job) -> dict[str, Any]:
        """Say what made a word: its attribution to the input, and what the model nearly wrote instead.

        Args:
            item: The recording or the sentence.
            which: The model.
            number: The number of the word in the answer, from 0.
            job: Where progress is told.

        Raises:
            InputError: The answer has no such word.
        """
        loaded, example = self.model(which), item.example
        with self.with_corrections(which):
            words = output_words(loaded.model, example)
            if not 0 <= number < len(words):
                raise InputError(f"The answer has {len(words)} words, and no word {number + 1}.")
            job.tell(0.1)
            word = words[number]
            near = runners_up(loaded.model, example, word)
            job.tell(0.2)
            window = loaded.model.reader.window is not None
            steps, at_once = (WINDOW_STEPS, 1) if window else (STEPS, 8)
            found = attribute(loaded.model, example, word, steps=steps, at_once=at_once)
            job.tell(0.8)
            other = self.against if which == "model" else self.loaded
            lens = self.lenses.read(loaded, example, word, other)
        length = None if isinstance(example, Pair) else loaded.model.reader.length(example)
        return _attribution(found, length) | {
            "number": number,
            "runners_up": [asdict(step) for step in near],
            "lens": lens,
        }

    def correct(self, item: Item, text: str, force: bool, author: str, job: Job) -> dict[str, Any]:
        """Correct the answer to an item, and say what came of it.

        Raises:
            InputError: corrections are off, nothing is protected, or the item cannot be read.
        """
        text = " ".join(text.split())
        if not text:
            raise InputError("Give the right text.")
        memory = self._memory(job)
        job.tell(0.3)
        outcome = memory.correct(with_text(item.example, text), author=author, force=force)
        if outcome.number is not None:
            self._forget()
        return _outcome(outcome)

    def undo(self, number: int) -> dict[str, Any]:
        """Remove a correction. Raises InputError if there is none of this number."""
        record = undo_correction(self.loaded, number, self.store)
        self._forget()
        return {"number": record.number, "text": record.facts.get("text", "")}

    def records(self) -> list[dict[str, Any]]:
        """Return the corrections, the newest first, as JSON data."""
        if self.store is None or not CorrectionStore.exists(self.store):
            return []
        records = list_corrections(self.loaded, self.store)
        return [
            {
                "number": one.number,
                "made": one.made,
                "author": one.author,
                "before": one.facts.get("before", ""),
                "text": one.facts.get("text", ""),
                "input": Path(str(one.facts.get("example", {}).get("audio", ""))).name
                or one.facts.get("example", {}).get("source", ""),
                "override": bool(one.facts.get("override")),
            }
            for one in reversed(records)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the models and the examples as JSON data."""
        rows = []
        for item in self.items:
            answers = {which: known for which in WHICH if (known := self.known(item, which)) is not None}
            rows.append(item.as_dict() | {"answers": {which: _short(answer) for which, answer in answers.items()}})
        return {
            "model": _facts(self.loaded),
            "against": None if self.against is None else _facts(self.against),
            "items": rows,
            "corrections": None if self.store is None else str(self.store),
        }

    def _memory(self, job: Job) -> ModelMemory:
        if self.store is None:
            raise InputError("Corrections are off. Start the studio without corrections=off.")
        job.tell(0.05, {"step": "opening the corrections; the first one of a model measures what to protect"})
        return open_or_create(self.loaded, self.protected, self.store)

    @contextmanager
    def with_corrections(self, which: str) -> Iterator[None]:
        """Apply the corrections within the block, if `which` is the model that a person corrects here."""
        if which != "model" or self.store is None or not CorrectionStore.exists(self.store):
            yield
            return
        with corrected(self.loaded, self.store):
            yield

    def _forget(self) -> None:
        with self._lock:
            self._answers = {key: value for key, value in self._answers.items() if key[1] != "model"}


def _answer(loaded: Loaded, example: Example, job: Job) -> dict[str, Any]:
    model = loaded.model
    if isinstance(example, Pair):
        (text,) = decode_examples(model, model.task, [example], Loader())
        return {"text": text, "words": [{"text": word} for word in text.split()], "language": None}
    assert isinstance(example, (Utterance, Recording))
    if not is_long(model, example):
        return _transcript(transcribe_whole(model, example))
    done, whole = 0.0, model.reader.length(example)

    def progress(seconds: float) -> None:
        nonlocal done
        done += seconds
        job.tell(min(1.0, done / whole) if whole else None)

    ((_, found),) = transcribe_recordings(model, [example], progress=progress)
    if isinstance(found, InputError):
        raise found
    return _transcript(found)


def _transcript(found: Transcript) -> dict[str, Any]:
    words = [asdict(word) for word in found.words]
    return {"text": found.text, "words": words, "language": found.language, "seconds": found.seconds}


def _compared(loaded: Loaded, example: Example, text: str) -> dict[str, Any]:
    if not example.text:
        return {"aligned": None, "errors": None, "reference_words": None}
    with normalising([loaded.model], [example]):  # style is no error
        task = loaded.model.task
        reference, answer = (task.compared_words([example], [one])[0] for one in (example.text, text))
    pairs = align(reference, answer)
    return {
        "aligned": [asdict(pair) for pair in pairs],
        "errors": sum(pair.reference != pair.hypothesis for pair in pairs),
        "reference_words": len(reference.split()),
    }


def _attribution(found: Attribution, seconds: float | None) -> dict[str, Any]:
    """Return an attribution as JSON data, without the silence that a network pads the audio with."""
    values = found.values.float()
    if seconds is not None and found.seconds is not None:
        values = values[:, : max(1, round(values.shape[1] * min(1.0, seconds / found.seconds)))]
    largest = float(values.abs().max()) or 1.0
    return {
        "word": found.word.text,
        "score": found.score,
        "baseline": found.baseline,
        "gap": found.gap,
        "seconds": seconds,
        "frequencies": found.frequencies,
        "shape": list(values.shape),
        "largest": largest,
        "values": [round(value / largest, 3) for value in values.flatten().tolist()],
        "by_source_word": [list(pair) for pair in found.by_source_word()],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return asdict(outcome) | {"fixed": outcome.number is not None and outcome.fixed}


def _facts(loaded: Loaded) -> dict[str, Any]:
    model = loaded.model
    return {
        "reference": loaded.reference,
        "name": Path(loaded.reference).name,
        "reads": "audio" if model.reads_audio else "text",
        "kind": "CTC" if isinstance(model, CTCModel) else "encoder-decoder",
        "layers": len(model.layers),
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "window": model.reader.window,
    }


def _short(answer: Mapping[str, Any]) -> dict[str, Any]:
    words = [word["confidence"] for word in answer["words"] if word.get("confidence") is not None]
    kept = {name: answer[name] for name in ("text", "errors", "reference_words")}
    return kept | {"confidence": min(words) if words else None}
