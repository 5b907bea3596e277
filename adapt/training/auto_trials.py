"""What `tuning=auto` tries: the options, how the training data are divided, and one trial with its stored result.

A trial trains on a part of the training data (`inner`) and is judged on another part (`choice`), which no trial trains
on. Validation data of the user are only used to say how much the chosen options won: they decide nothing.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adapt.blending.interpolate import Interpolation
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.replay import Replay
from adapt.data.subset import evenly
from adapt.errors import InputError
from adapt.files import is_file, read_json, write_json
from adapt.models.inference import eval_mode
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.models.recipe import Kind
from adapt.training.defaults import with_rate
from adapt.training.fine_tune import fine_tune
from adapt.training.module import DIVERGED
from adapt.training.start import described, digests, loader_options
from adapt.tuning import layers as layer_tunings
from adapt.tuning.lora import lora
from adapt.tuning.neurons import neurons
from adapt.tuning.tuned import Tuning

log = logging.getLogger(__name__)

_WORST = 1e6  # the loss of an example that a diverged model cannot read
_SHARE, _LEAST, _MOST = 4, 20, 100  # one in so many examples is for the choice; their least and largest number
_SPEAKERS = 5  # with so many speakers or more, whole speakers are held out
BLENDS = (1.0, 0.8, 0.6)  # factors between base (0) and adapted model (1)
_TUNINGS: dict[str, tuple[Any, Kind]] = {
    "full": (layer_tunings.full, "weights"),
    "layers": (layer_tunings.layers, "weights"),
    "lora": (lora, "factors"),
    "neurons": (neurons, "rows"),
}


@dataclass(frozen=True)
class Candidate:
    """One set of options. Candidates are ordered: of those that do equally well, the first is chosen.

    Attributes:
        tuning: "full", "layers", "lora" or "neurons".
        learning_rate: The highest learning rate.
        options: The options of the tuning.
        replay: The share of an epoch's examples that come from `source_train`.
    """

    tuning: str
    learning_rate: float
    options: Mapping[str, Any] = field(default_factory=dict)
    replay: Replay = 0.0

    @property
    def function(self) -> Tuning:
        """The tuning as `fine_tune` takes it."""
        return partial(_TUNINGS[self.tuning][0], **self.options)

    @property
    def target(self) -> str:
        """The dotted path of the tuning's function, as a configuration names it."""
        function = _TUNINGS[self.tuning][0]
        return f"{function.__module__}.{function.__name__}"

    def __str__(self) -> str:
        own = "".join(f" {name}={value}" for name, value in self.options.items() if name in ("layers", "top"))
        replay = f", replay={self.replay}" if self.replay else ""
        return f"tuning={self.tuning}{own}, learning rate {self.learning_rate:g}{replay}"


def candidates(model: Model, rate: float | None = None, replay: Replay = 0.0) -> list[Candidate]:
    """Return what is tried first, the family's defaults at the beginning.

    Args:
        model: The model to tune.
        rate: The user's learning rate; None tries the family's, and three times as much and a third.
        replay: The user's share of replayed examples.
    """
    size = sum(parameter.numel() for parameter in model.parameters())
    third = max(1, len(model.layers) // 3)
    lower: dict[str, Any] = {"layers": f"first {third}"}
    some: dict[str, Any] = {"choose": "random", "per_site": True, "top": 0.2}

    def one(tuning: str, factor: float = 1.0, **options: Any) -> Candidate:
        own = model.recipe.learning_rate(_TUNINGS[tuning][1], size) * factor
        return Candidate(tuning, float(f"{own:.1e}") if rate is None else rate, options, replay)

    first = [one("full"), one("lora"), one("layers", **lower), one("neurons", **some)]
    if rate is not None:
        return first
    return [*first[:2], one("full", 3), one("full", 1 / 3), *first[2:], one("lora", 3), one("layers", 3, **lower)]


def divided(splits: Splits) -> tuple[list[Example], list[Example]]:
    """Divide training examples into those that trials train on, and those on which they are compared.

    With `_SPEAKERS` speakers or more, no speaker is in both parts. Raises InputError if there are too few examples.
    """
    examples = list(splits.train)
    count = min(_MOST, max(_LEAST, len(examples) // _SHARE))
    if len(examples) < 2 * _LEAST:
        raise InputError(
            f"tuning=auto needs at least {2 * _LEAST} training examples, to train on some and compare on others; got "
            f"{len(examples)}. Give tuning=full or tuning=lora."
        )
    by_speaker: dict[str, list[Example]] = {}
    for example in examples:
        by_speaker.setdefault(example.group("speaker"), []).append(example)
    if len(by_speaker) >= _SPEAKERS and "unknown" not in by_speaker:
        held: list[Example] = []
        for own in sorted(by_speaker.values(), key=len):
            if len(held) + len(own) > count and len(held) >= _LEAST:
                break
            held += own
        if len(held) <= len(examples) // 2:
            out = set(map(id, held))
            return [one for one in examples if id(one) not in out], held
    held = evenly(examples, count)
    out = set(map(id, held))
    return [one for one in examples if id(one) not in out], held


@dataclass(frozen=True)
class Answers:
    """What a model answers to a set of examples: the texts, and the loss of each example."""

    texts: list[str]
    losses: list[float]


@dataclass(frozen=True)
class Trial:
    """A finished trial: `answers` by blend factor ("1", "0.85", ...) and set ("choice", "source", "validation")."""

    candidate: Candidate | None  # None: the base
    epochs: int
    seconds: float
    answers: dict[str, dict[str, Answers]]


@dataclass(frozen=True)
class Bench:
    """What trials run on.

    Attributes:
        base: The model to start from.
        inner: The splits that trials train on.
        sets: The examples that models are compared on: "choice", "source" (if there are any), "validation".
        loader: Batches the examples.
        folder: Where results are stored; those that are there are not computed again.
        seed: The seed of all trials.
        options: Further options of `fine_tune` for each trial.
        trainer: A function that makes a trainer for a number of epochs; None for the default one.
    """

    base: Loaded
    inner: Splits
    sets: Mapping[str, Sequence[Example]]
    loader: Loader
    folder: Path
    seed: int
    options: Mapping[str, Any]
    trainer: Any = None

    def run(self, number: int, candidate: Candidate | None, epochs: int, blends: Sequence[float] = (1.0,)) -> Trial:
        """Return the stored result of a trial, or train, answer and store it. `candidate` None: only the base answers.

        Raises:
            InputError: the stored result is of other options or other data, or is damaged.
        """
        path = self.folder / f"trial-{number:02}.json"
        key = {"trial": str(candidate), "epochs": epochs, "blends": list(blends), "of": self._digest()}
        if is_file(path):
            return _stored(path, key, candidate)
        started = time.perf_counter()
        if candidate is None:
            answers = {"0": self._answers(self.base.model)}
        else:
            answers = self._trained(candidate, epochs, blends)
        trial = Trial(candidate, epochs, time.perf_counter() - started, answers)
        texts = {name: {place: vars(own) for place, own in sets.items()} for name, sets in answers.items()}
        write_json(path, {"key": key, "seconds": trial.seconds, "answers": texts})
        return trial

    def _trained(self, candidate: Candidate, epochs: int, blends: Sequence[float]) -> dict[str, dict[str, Answers]]:
        """Train, and return the answers at each blend factor; what diverges answers nothing."""
        own: dict[str, Any] = {"blend": "off"}
        if self.trainer is not None:
            own["trainer"] = self.trainer(epochs)
        if "optimizer" in self.options:
            own["optimizer"] = with_rate(self.options["optimizer"], candidate.learning_rate)
        try:
            with _quietly():
                adapted = fine_tune(
                    self.base, self.inner, candidate.function, epochs=epochs, learning_rate=candidate.learning_rate,
                    replay=candidate.replay, seed=self.seed, loader=self.loader, **{**self.options, **own},
                )  # fmt: skip
        except InputError as error:
            if not str(error).startswith(DIVERGED):
                raise
            log.info("  %s: training diverged.", candidate)
            return {"1": {name: Answers([""] * len(own), [_WORST] * len(own)) for name, own in self.sets.items()}}
        found = {"1": self._answers(adapted.loaded.model)}
        line = Interpolation(self.base.model, adapted.loaded.model, adapted.factors)
        return found | {f"{factor:g}": self._answers(line.model_at(factor)) for factor in blends if factor < 1}

    def _answers(self, model: Model) -> dict[str, Answers]:
        return {name: answers(model, examples, self.loader) for name, examples in self.sets.items()}

    def _digest(self) -> str:
        trainer = None if self.trainer is None else self.trainer(1)
        read: list[Any] = [self.base.fingerprint, self.seed, loader_options(self.loader)]
        read += [described(trainer), described(dict(self.options))]
        for examples in (self.inner.train, self.inner.source_train, *self.sets.values()):
            read.append(digests(examples))
        return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:16]


@contextmanager
def _quietly() -> Iterator[None]:
    """Within this context, training logs warnings only: a line for each epoch of each trial would be too many."""
    ours = logging.getLogger("adapt.training")
    level = ours.level
    ours.setLevel(logging.WARNING)
    try:
        yield
    finally:
        ours.setLevel(level)


def answers(model: Model, examples: Sequence[Example], loader: Loader) -> Answers:
    """Return the answers of a model to examples, one at a time, so that each has its own loss."""
    texts, losses = [], []
    device = next(model.parameters()).device
    with eval_mode(model), torch.inference_mode():
        for batch in replace(loader, batch_size=1).evaluation(examples, model.reader):
            batch = batch.to(device)
            texts.append((batch.examples[0], model.task.decode(model, batch)[0]))
            losses.append((batch.examples[0], float(model.task.loss(model, batch))))
    by_text, by_loss = ({id(example): value for example, value in pairs} for pairs in (texts, losses))
    finite = [by_loss[id(one)] if math.isfinite(by_loss[id(one)]) else _WORST for one in examples]
    return Answers([by_text[id(one)] for one in examples], finite)


def _stored(path: Path, key: Mapping[str, Any], candidate: Candidate | None) -> Trial:
    try:
        content = read_json(path)
        found = {
            name: {place: Answers(list(own["texts"]), list(own["losses"])) for place, own in sets.items()}
            for name, sets in content["answers"].items()
        }
        before, seconds = content["key"], float(content["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}' is damaged ({error}). Delete it to repeat this trial.") from None
    if before != key:
        raise InputError(
            f"'{path}' is of other options or data ({before.get('trial')}). Give another folder, or overwrite=true."
        )
    return Trial(candidate, key["epochs"], seconds, found)
