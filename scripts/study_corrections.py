#!/usr/bin/env python3
"""Compare methods that learn from a stream of corrections: ours, fine-tuning, and other edits of hidden states.

    scripts/study_corrections.py                                             # 100 corrections of Scottish English
    scripts/study_corrections.py --data domains --corrections 100            # of translations in another domain
    scripts/study_corrections.py --data formality --corrections 30           # "du" to "Sie" in weather notes
    scripts/study_corrections.py --data fsdd --folder FSDD                   # of digits; first trains a base on them
    scripts/study_corrections.py --methods ridge+codebook --sites all        # at each layer that can hold corrections
    scripts/study_corrections.py --seeds 3                                   # the mean of three streams
    scripts/study_corrections.py --methods ridge+codebook tuning --corrections 10 --test 20      # a small study

Target examples arrive one by one. An example is corrected only if the model, with the corrections so far, gets it
wrong. Columns:

- fixed: share of corrections that work at once (reliability); kept: share that still work after all corrections,
  decoded one by one and in padded batches (retention);
- same: relative change of the error on other examples of the same speakers or domain (accents: the validation split);
  new: on other speakers (the test split; formality: sentences with other verbs). The error is the WER, or the TER of
  translations (generality and portability);
- unchanged: share of unrelated test examples whose output did not change (locality), and their error before and after;
- s and kB per correction; slower: decoding time of the unrelated examples, relative to the unmodified model;
- undo: after all corrections are undone one by one, the share of unrelated examples whose output still differs.

Methods: `ridge+codebook` is ours, `no gate` the same without its gate, and `ridge` and `codebook` are its two parts
alone. `hard codebook` adds a value within a radius and nothing outside (GRACE: Hartvigsen et al. 2023). `constant`
adds the mean of all changes. `knn` interpolates the output with the labels of the nearest corrected steps (kNN-MT:
Khandelwal et al. 2021). `tuning` trains on each correction until it works; `replay` also trains on protected examples.
`jointly` cannot take corrections one by one: for each row, it fine-tunes the unmodified model on all corrections for
15 epochs, so its `fixed` has no meaning.
"""

import argparse
import copy
import json
import logging
import random
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from result_table import add_results_option, write_table
from torch import Tensor

from adapt.corrections.attempt import SEARCHES, STRENGTH
from adapt.corrections.collect import collect_protected
from adapt.corrections.layers import correction_layer
from adapt.data.kinds import with_text
from adapt.data.loader import Batch, Loader, collate
from adapt.data.manifest import Splits
from adapt.data.pairs import Pair
from adapt.introspect.activations import valid_lengths
from adapt.models.checkpoint import load_model
from adapt.models.ctc import ctc_greedy_loss, ctc_path
from adapt.models.inference import decode_examples
from adapt.models.model import CTCModel, Model
from interventions.capture import capture
from interventions.corrections.correct import correct
from interventions.corrections.layer import AffineLayer, layer_inputs
from interventions.corrections.memory import Memory
from interventions.corrections.packing import pack_entry
from interventions.corrections.protect import Protected
from interventions.corrections.search import EditSubspace, Search, find_change
from interventions.intervene import Edits
from interventions.intervention import Edit, Intervention
from interventions.scope import StepContext
from interventions.sites import Site
from interventions.steer import Steer

ROOT = Path(__file__).resolve().parent.parent
ALONE = Loader(batch_seconds=0, batch_tokens=0)
NO_RIDGE = 1e9  # with this strength the ridge map is zero
UNRESTRICTED_RATE = 0.02  # of a search in which steps change independently, and therefore by more


@dataclass
class Row:
    """A method after a number of corrections of one stream. The docstring of this script describes the columns."""

    site: str
    seed: int
    method: str
    corrections: int
    fixed: float
    kept: float
    kept_in_batches: float
    same: float
    new: float
    unchanged: float
    error_before: float
    error_after: float
    seconds: float
    kilobytes: float
    slower: float
    undo: float | None = None


@dataclass
class Case:
    """A model, a stream of corrections, and the test sets.

    Attributes:
        model: The model.
        layer: The layer that holds the corrections.
        protected: Statistics of the protected examples at this layer.
        stream: The examples to correct.
        rehearsal: The examples that `replay` trains on.
        same: Other examples of the same speakers or domain.
        new: Examples of other speakers.
        unrelated: Examples that corrections should not affect.
        search: The options of the search for a change.
        at: The numbers of corrections after which to measure.
        unmodified: The texts of the unmodified model, by the name of the test set.
    """

    model: Model
    layer: AffineLayer
    protected: Protected
    stream: Sequence[Any]
    rehearsal: Sequence[Any]
    same: Sequence[Any]
    new: Sequence[Any]
    unrelated: Sequence[Any]
    search: Search
    at: Sequence[int]
    unmodified: dict[str, list[str]] = field(default_factory=dict)

    def error(self, texts: Sequence[str], examples: Sequence[Any]) -> float:
        """Return the WER or the TER, as a fraction."""
        values = self.model.task.evaluate([example.text for example in examples], texts).values()
        return values["wer"] if "wer" in values else values["ter"] / 100

    def decode(self, examples: Sequence[Any], loader: Loader | None = None) -> list[str]:
        return decode_examples(
            self.model, self.model.task, examples, loader or Loader(batch_seconds=60, batch_tokens=3000)
        )

    def batch(self, example: Any) -> Batch:
        return collate([(example, self.model.reader.read(example))])

    def is_correct(self, example: Any) -> bool:
        normalise = self.model.task.normalise
        with torch.no_grad():
            return normalise(self.model.task.decode(self.model, self.batch(example))[0]) == normalise(example.text)

    def loss(self, batch: Batch) -> Tensor:
        greedy = isinstance(self.model, CTCModel)
        return ctc_greedy_loss(self.model, batch) if greedy else self.model.task.loss(self.model, batch)


class Method:
    """A method that learns corrections one by one. `interventions` apply them."""

    def __init__(self, case: Case) -> None:
        self.case, self.kilobytes = case, 0.0

    def learn(self, number: int, example: Any) -> None:
        """Learn a correction."""

    def interventions(self) -> list[Intervention]:
        """Return the interventions to put on the model."""
        return []

    def undo(self, number: int) -> bool:
        """Undo a correction. Return False if the method cannot."""
        return False


class MemoryMethod(Method):
    """`Memory`, or one of its two parts."""

    def __init__(self, case: Case, strength: float, parts: str = "both", gated: bool = True) -> None:
        super().__init__(case)
        self.memory = Memory.new(case.protected, strength, gated=gated)
        self.view = replace(self.memory, parts=parts)
        self.search = replace(case.search, rate=UNRESTRICTED_RATE) if parts == "codebook" else case.search

    def learn(self, number: int, example: Any) -> None:
        case = self.case
        batch = case.batch(example)
        steps = int(valid_lengths(case.model, batch)(case.layer.site))
        found = correct(
            case.model,
            self.view,
            number,
            lambda: case.loss(batch),
            lambda: case.is_correct(example),
            steps,
            self.search,
        )
        if found.entry is not None:
            self.kilobytes += len(pack_entry(found.entry)) / 1000

    def interventions(self) -> list[Intervention]:
        return [self.view]

    def undo(self, number: int) -> bool:
        if number in self.memory.entries:
            self.memory.remove(number)
        return True


class ChangeMethod(Method):
    """A method that stores the change which `find_change` finds."""

    def learn(self, number: int, example: Any) -> None:
        case = self.case
        batch = case.batch(example)
        with layer_inputs(case.model, case.layer) as found, torch.no_grad():
            case.loss(batch)
        steps = int(valid_lengths(case.model, batch)(case.layer.site))
        inputs = found[0][0][: case.layer.needed(steps)]
        change = find_change(
            case.model, case.layer.site, EditSubspace.unrestricted(steps), case.protected.output_scale,
            lambda: case.loss(batch), lambda: case.is_correct(example),
            replace(case.search, rate=UNRESTRICTED_RATE), self.interventions(),
        )  # fmt: skip
        if change.correct:
            self.keep(number, example, inputs, change.values)

    def keep(self, number: int, example: Any, inputs: Tensor, values: Tensor) -> None:
        """Store a change `(steps, units)` together with the inputs of the layer."""


class Constant(ChangeMethod):
    """Add the mean change over all corrections and their steps."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.vectors: dict[int, Tensor] = {}

    def keep(self, number: int, example: Any, inputs: Tensor, values: Tensor) -> None:
        self.vectors[number] = values.mean(0) + (self._mean() if self.vectors else 0)
        self.kilobytes += values.shape[1] * 4 / 1000

    def _mean(self) -> Tensor:
        return torch.stack(list(self.vectors.values())).mean(0)

    def interventions(self) -> list[Intervention]:
        return [Steer(self.case.layer.site, self._mean())] if self.vectors else []

    def undo(self, number: int) -> bool:
        self.vectors.pop(number, None)
        return True


@dataclass(frozen=True, eq=False)
class FunctionEdit(Intervention):
    """Edit a site by a function of its output and of the inputs of its module."""

    site: Site
    function: Any

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def reads_inputs(self) -> bool:
        return True

    def at(self, site: Site) -> Edit:
        def edit(x: Tensor, now: StepContext) -> Tensor:
            return self.function(x, now.inputs[0])

        return edit


class HardCodebook(ChangeMethod):
    """Add a value within a radius of its key: half the distance to the nearest protected key."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.kept: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def keep(self, number: int, example: Any, inputs: Tensor, values: Tensor) -> None:
        keys = self.case.layer.keys(inputs.float())[: len(values)]
        values = values + self._added(keys)
        changed = values.norm(dim=1) > 0.15 * values.norm(dim=1).max()
        keys, values = self.case.protected.project(keys[changed]), values[changed]
        self.kept[number] = keys, values, 0.5 * self.case.protected.radii(keys)
        self.kilobytes += (keys.numel() + values.numel()) * 2 / 1000

    def _added(self, keys: Tensor) -> Tensor:
        if not self.kept:
            return torch.zeros(len(keys), self.case.layer.site.units)
        known, values, radii = (torch.cat(parts) for parts in zip(*self.kept.values(), strict=True))
        near, place = (torch.cdist(self.case.protected.project(keys), known) / radii).min(1)
        return values[place] * (near <= 1).unsqueeze(1)

    def _edit(self, x: Tensor, inputs: Tensor) -> Tensor:
        own = self.case.layer.inputs_last(inputs)
        return x + torch.stack([self._added(self.case.layer.keys(one)) for one in own]).view_as(x)

    def interventions(self) -> list[Intervention]:
        return [FunctionEdit(self.case.layer.site, self._edit)] if self.kept else []

    def undo(self, number: int) -> bool:
        self.kept.pop(number, None)
        return True


class Neighbours(Method):
    """Mix the labels of the nearest corrected steps into the output. Keys are inputs of the output layer."""

    share, nearest = 0.5, 8

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.site = next(site for site in reversed(case.model.sites))
        self.layer = AffineLayer.at_site(case.model, self.site)
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def learn(self, number: int, example: Any) -> None:
        model, batch = self.case.model, self.case.batch(example)
        target = model.encode(example.text)
        with layer_inputs(model, self.layer) as found, capture(model, self.site) as acts, torch.no_grad():
            self.case.loss(batch)
        keys = self.layer.keys(found[0][0])
        labels = torch.tensor(target)
        if isinstance(model, CTCModel):
            labels = ctc_path(acts[self.site][0].log_softmax(-1), target, model.blank)
            keys, labels = keys[labels != model.blank], labels[labels != model.blank]
        self.kept[number] = keys[: len(labels)], labels
        self.kilobytes += keys.numel() * 2 / 1000

    def _edit(self, x: Tensor, inputs: Tensor) -> Tensor:
        known, labels = (torch.cat(parts) for parts in zip(*self.kept.values(), strict=True))
        keys = torch.stack([self.layer.keys(one) for one in self.layer.inputs_last(inputs)])
        count = min(self.nearest, len(known))
        away, place = torch.cdist(keys, known.expand(len(keys), -1, -1)).topk(count, largest=False)
        scale = known.norm(dim=1).mean() / 10
        found = torch.zeros_like(x).scatter_add_(2, labels[place], (-away / scale).softmax(-1))
        near = self.share * torch.sigmoid(4 - away[..., :1] / scale)
        return ((1 - near) * x.softmax(-1) + near * found).clamp_min(1e-9).log()

    def interventions(self) -> list[Intervention]:
        return [FunctionEdit(self.site, self._edit)] if self.kept else []

    def undo(self, number: int) -> bool:
        self.kept.pop(number, None)
        return True


class Tuning(Method):
    """Train on each correction until it works, with `replay` protected examples in each step."""

    def __init__(self, case: Case, replay: int = 0, rate: float = 1e-4) -> None:
        super().__init__(case)
        self.replay, self.draw = replay, random.Random(0)
        case.model.requires_grad_(True)
        self.optimizer = torch.optim.Adam(case.model.parameters(), rate)
        self.kilobytes = sum(parameter.nbytes for parameter in case.model.parameters()) / 1000

    def learn(self, number: int, example: Any) -> None:
        case, batch = self.case, self.case.batch(example)
        for _ in range(60):
            loss = case.model.task.loss(case.model, batch)
            if float(loss.detach()) < case.search.margin and case.is_correct(example):
                return
            if self.replay:
                others = self.draw.sample(case.rehearsal, self.replay)
                more = collate([(other, case.model.reader.read(other)) for other in others])
                loss = loss + self.replay * case.model.task.loss(case.model, more)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


class Jointly(Method):
    """Fine-tune the unmodified model on all corrections so far, for several epochs."""

    epochs, rate, together = 15, 5e-4, 10

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.initial, self.examples = copy.deepcopy(case.model.state_dict()), []
        self.kilobytes = sum(parameter.nbytes for parameter in case.model.parameters()) / 1000

    def learn(self, number: int, example: Any) -> None:
        case = self.case
        self.examples.append((example, case.model.reader.read(example)))
        if len(self.examples) not in case.at:
            return
        case.model.load_state_dict(self.initial)
        case.model.requires_grad_(True)
        optimizer, draw = torch.optim.Adam(case.model.parameters(), self.rate), random.Random(0)
        for _ in range(self.epochs):
            draw.shuffle(order := list(self.examples))
            for start in range(0, len(order), self.together):
                optimizer.zero_grad()
                case.model.task.loss(case.model, collate(order[start : start + self.together])).backward()
                torch.nn.utils.clip_grad_norm_(case.model.parameters(), 1.0)
                optimizer.step()


def methods(strength: float) -> dict[str, Any]:
    """Return the constructors of all methods, by name."""
    return {
        "ridge+codebook": lambda case: MemoryMethod(case, strength),
        "no gate": lambda case: MemoryMethod(case, strength, gated=False),
        "ridge": lambda case: MemoryMethod(case, strength, "ridge"),
        "codebook": lambda case: MemoryMethod(case, NO_RIDGE, "codebook"),
        "hard codebook": HardCodebook,
        "constant": Constant,
        "knn": Neighbours,
        "tuning": Tuning,
        "replay": lambda case: Tuning(case, 4),
        "jointly": Jointly,
    }


_FORMAL = {"Hast du": "Haben Sie", "hast du": "haben Sie", "Willst du": "Wollen Sie"}
_FORMAL_TOO = {
    "Kannst du": "Können Sie", "kannst du": "können Sie", "Glaubst du": "Glauben Sie", "Spürst du": "Spüren Sie",
    "Du brauchst": "Sie brauchen", "Du solltest": "Sie sollten",
}  # fmt: skip
_SECOND_PERSON = re.compile(r"\b(du|dich|dir|deine?[mnrs]?|ihr|euch|eure?[mnrs]?)\b", re.IGNORECASE)


def formal(pairs: Sequence[Pair], words: Mapping[str, str]) -> list[Pair]:
    """Return the pairs that address somebody only with these informal words, with the polite words instead."""
    found = []
    for pair in pairs:
        text = pair.target
        for familiar, polite in words.items():
            text = text.replace(familiar, polite)
        rest = re.sub(r"\bdein(e?[mnrs]?)\b", r"Ihr\1", text)
        if text != pair.target and not _SECOND_PERSON.search(rest.replace("Ihr", "")):
            found.append(with_text(pair, rest))
    return found


def formality(corrections: int, test: int, protected: int) -> Splits:
    """Return weather notes with "Sie" for "du". Protected and unrelated examples address nobody."""
    from adapt.data.synthetic.domains import domains

    many = domains(target="weather", train=40 * corrections, validation=25 * test, test=15 * test, source_test=2 * test,
                   source_train=2 * protected)  # fmt: skip
    nobody = {
        name: [pair for pair in getattr(many, name) if not _SECOND_PERSON.search(pair.target)]
        for name in ("source_train", "source_test")
    }
    return replace(
        many, train=formal(many.train, _FORMAL), validation=formal(many.validation, _FORMAL),
        test=formal(many.test, _FORMAL_TOO), **nobody,
    )  # fmt: skip


def base_of_fsdd(folder: str, output: Path) -> str:
    """Return the folder of a base trained on the source speakers. Train it if it does not exist."""
    if not (output / "metrics.json").is_file():
        print(f"Training a base on {folder} in {output}. To use an existing one, give --model DIR.", flush=True)
        options = ["experiment=fsdd_base", f"data.folder={folder}", f"output={output}", "resume=true"]
        subprocess.run([sys.executable, "-m", "adapt.cli", "pretrain", *options], check=True, cwd=ROOT)
    return str(output)


def cases_of(args: argparse.Namespace, at: Sequence[int]) -> list[Case]:
    """Return one case for each layer that `--sites` selects."""
    if args.data == "accents":
        from adapt.data.synthetic.accents import accents

        given = accents(train=8 * args.corrections, validation=args.test, test=args.test, source_train=args.protected,
                        source_test=args.test)  # fmt: skip
        reference = args.model or "us-english"
    elif args.data == "domains":
        from adapt.data.synthetic.domains import domains

        given = domains(train=2 * args.corrections, validation=args.test, test=args.test, source_train=args.protected,
                        source_test=args.test)  # fmt: skip
        reference = args.model or "weather-en-de"
    elif args.data == "formality":
        given = formality(args.corrections, args.test, args.protected)
        reference = args.model or "weather-en-de"
    else:
        from adapt.data.corpora.fsdd import prepare_fsdd

        own = prepare_fsdd(args.folder, target=None, validation=1)
        given = prepare_fsdd(args.folder, utterances=250, validation=150)
        given = replace(given, source_train=own.train[: args.protected])
        reference = args.model or base_of_fsdd(args.folder, args.base)
    model = load_model(reference).model.requires_grad_(False)
    if args.data in ("domains", "formality"):  # the model repeats itself on unknown words
        model.set_translation(replace(model.translation_options, max_tokens=48))
    stream, rehearsal = given.train, given.source_train
    texts = decode_examples(model, model.task, rehearsal, Loader())
    answered = [with_text(example, text) for example, text in zip(rehearsal, texts, strict=True) if text]
    sets = {"same": given.validation, "new": given.test, "unrelated": given.source_test}
    sets = {name: own[: args.test] for name, own in sets.items()}
    cases, unmodified = [], {}
    for layer in layers(model, args.sites):
        search = SEARCHES[layer.site.step.unit]
        known = collect_protected(model, layer, answered)
        case = Case(model, layer, known, stream, rehearsal, **sets, search=search, at=at, unmodified=unmodified)
        for name, own in sets.items():
            unmodified.setdefault(name, case.decode(own))
        cases.append(case)
    return cases


def layers(model: Model, sites: Sequence[str] | None) -> list[AffineLayer]:
    """Return the layers with these names or globs, "all" that can hold corrections, or the default layer (None)."""
    if sites is None:
        return [correction_layer(model)]
    if list(sites) != ["all"]:
        return [correction_layer(model, site) for site in sites]
    found = []
    for site in model.sites:
        try:
            found.append(AffineLayer.at_site(model, site))
        except ValueError:
            continue
    return found


def measure(case: Case, name: str, make: Any, seed: int = 0) -> list[Row]:
    """Let a method learn a stream of corrections, in an order drawn with `seed` (0: the order of the data).

    Returns:
        One row for each of `case.at` that the stream reaches.
    """
    case = replace(case, model=copy.deepcopy(case.model))
    method, rows = make(case), []
    learned: list[tuple[int, Any]] = []
    fixed, seconds = 0, 0.0
    edits, stream = Edits(case.model), list(case.stream)
    if seed:
        random.Random(seed).shuffle(stream)

    def apply() -> None:
        edits.clear()
        for one in method.interventions():
            edits.add(one)

    for number, example in enumerate(stream):
        apply()
        if case.is_correct(example):
            continue
        edits.clear()
        started = time.perf_counter()
        method.learn(number, example)
        seconds += time.perf_counter() - started
        learned.append((number, example))
        apply()
        fixed += case.is_correct(example)
        if len(learned) in case.at:
            rows.append(_row(case, name, seed, method, [example for _, example in learned], fixed, seconds, edits))
        if len(learned) == max(case.at):
            break
    if rows:
        random.Random(0).shuffle(learned)
        undone = [method.undo(number) for number, _ in learned]
        apply()
        if all(undone):
            after, before = case.decode(case.unrelated), case.unmodified["unrelated"]
            rows[-1].undo = sum(one != other for one, other in zip(after, before, strict=True)) / len(before)
    edits.clear()
    return rows


def _row(
    case: Case, name: str, seed: int, method: Method, learned: Sequence[Any], fixed: int, seconds: float, edits: Edits
) -> Row:
    normalise, count = case.model.task.normalise, len(learned)

    def kept(loader: Loader | None) -> float:
        texts = case.decode(learned, loader)
        return (
            sum(normalise(text) == normalise(example.text) for text, example in zip(texts, learned, strict=True))
            / count
        )

    def relative(which: str) -> float:
        examples = getattr(case, which)
        return case.error(case.decode(examples), examples) / case.error(case.unmodified[which], examples) - 1

    before = case.unmodified["unrelated"]
    started = time.perf_counter()
    after = case.decode(case.unrelated)
    live = time.perf_counter() - started
    scores = {"kept": kept(ALONE), "kept_in_batches": kept(None), "same": relative("same"), "new": relative("new")}
    edits.clear()
    started = time.perf_counter()
    case.decode(case.unrelated)
    unmodified = time.perf_counter() - started
    return Row(
        case.layer.site.name, seed, name, count, fixed / count, **scores,
        unchanged=sum(one == other for one, other in zip(before, after, strict=True)) / len(before),
        error_before=case.error(before, case.unrelated), error_after=case.error(after, case.unrelated),
        seconds=seconds / count, kilobytes=method.kilobytes / count, slower=live / unmodified,
    )  # fmt: skip


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    for row in rows:
        undo = "-" if row.undo is None else f"{row.undo:.3f}"
        print(
            f"{row.method:<15}{row.corrections:>5}{row.fixed:>7.2f}{row.kept:>7.2f} ({row.kept_in_batches:.2f})"
            f"{100 * row.same:>+7.0f} %{100 * row.new:>+6.0f} %{100 * row.unchanged:>8.1f} %"
            f"{100 * row.error_before:>7.1f} -> {100 * row.error_after:<5.1f}{row.seconds:>6.2f} s"
            f"{row.kilobytes:>8.1f} kB{row.slower:>6.2f} x{undo:>7}",
            flush=True,
        )


def means(rows: Sequence[Row]) -> list[Row]:
    """Return the mean over seeds for each method, site and number of corrections."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.site, row.method, row.corrections), []).append(row)
    measured = [one.name for one in fields(Row) if one.name not in ("site", "seed", "method", "corrections", "undo")]
    return [
        replace(
            own[0],
            **{name: statistics.fmean(getattr(row, name) for row in own) for name in measured},
            undo=None if any(row.undo is None for row in own) else max(row.undo for row in own),
        )
        for own in groups.values()
    ]


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["accents", "fsdd", "domains", "formality"], default="accents")
    parser.add_argument("--model", help="default: the embedded model; for fsdd, a base trained on it")
    parser.add_argument("--folder", help="folder of fsdd")
    parser.add_argument("--base", type=Path, default=Path("outputs/study_corrections/fsdd"),
                        help="for fsdd without --model: where its base is trained")  # fmt: skip
    parser.add_argument("--sites", nargs="+", help="names or globs of layers, or all; default: that of the model")
    parser.add_argument("--seeds", type=int, default=1, help="number of streams to average over")
    parser.add_argument("--strength", type=float, help="default: that of `innertune correct`")
    parser.add_argument("--methods", nargs="+", choices=methods(0), default=list(methods(0)))
    parser.add_argument("--corrections", type=int, default=100)
    parser.add_argument("--at", type=int, nargs="+", help="measure after these numbers; default: 10 %%, 30 %% and all")
    parser.add_argument("--test", type=int, default=200, help="examples of each test set")
    parser.add_argument("--protected", type=int, default=200)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    add_results_option(parser)
    args = parser.parse_args()
    if args.data == "fsdd" and not args.folder:
        parser.error("fsdd needs --folder")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    at = sorted({*(args.at or (max(1, args.corrections // 10), max(1, 3 * args.corrections // 10))), args.corrections})
    rows: list[Row] = []
    for case in cases_of(args, at):
        strength = args.strength or STRENGTH
        print(f"{case.layer.site.name}, strength {strength:g}; error of the unmodified model: " + ", ".join(
            f"{name} {100 * case.error(texts, getattr(case, name)):.1f}" for name, texts in case.unmodified.items()
        ))  # fmt: skip
        print(
            "method         corr.  fixed   kept (batch)   same    new  unchanged  error     a correction      slower"
            "  undo"
        )
        for name in args.methods:
            own = [row for seed in range(args.seeds) for row in measure(case, name, methods(strength)[name], seed)]
            show(means(own))
            rows += own
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if args.results:
        write_table(args.results, __doc__ or "", [asdict(row) for row in rows], f"{args.seeds} streams")


if __name__ == "__main__":
    main()
