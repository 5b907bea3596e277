#!/usr/bin/env python3
"""What becomes of a stream of corrections: of ours, of fine-tuning on them, and of other ways to edit hidden states.

    scripts/study_corrections.py                                             # 100 corrections of Scottish English
    scripts/study_corrections.py --data domains --corrections 100            # of translations from another domain
    scripts/study_corrections.py --data formality --corrections 30           # every du of the weather notes made a Sie
    scripts/study_corrections.py --data fsdd --folder FSDD                   # of digits; trains a base of them first
    scripts/study_corrections.py --methods ridge+codebook --sites all        # at each layer that can hold corrections
    scripts/study_corrections.py --seeds 3                                   # three streams, and their mean
    scripts/study_corrections.py --methods ridge+codebook tuning --corrections 10 --test 20      # a small one

Examples of the target come one by one; one is corrected only if the model, with what it was taught so far, gets it
wrong. All answers are decoded freely. Columns:

- fixed: right at once; kept: right after all corrections, decoded alone, and in padded batches;
- same: relative change of the error on other examples of the stream's own speakers or domain (accents: the validation
  split), new: on speakers that no correction is of (the test split; formality: sentences with other verbs); the error
  is the WER, for translations the TER;
- unchanged: the share of unrelated test examples that are answered as before, and their error before and after;
- s and kB a correction; slower: answering the unrelated with all of it on, beside the bare model;
- undo: what is left in the answers to the unrelated after all is taken back one by one, as a share of them that differ.

Methods: ours is `ridge+codebook`; `no gate` is the same, the ridge map being open to all; `ridge` and `codebook` are
its parts alone (the soft codebook, after no ridge map);
`hard codebook` adds a value within a radius and nothing outside (GRACE: Hartvigsen et al. 2023); `constant` adds the
mean of all changes found; `knn` interpolates the output with the labels of the nearest corrected steps (kNN-MT:
Khandelwal et al. 2021); `tuning` steps on each correction until it is decoded, `replay` with protected examples too.
`jointly` is no way to take corrections as they come, but what long training on them gives: whenever there is a row to
print, the bare model is tuned on all of them at once, 15 times over (`fixed` means nothing there).
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

import torch
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
from adapt.models.model import Model
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
NO_RIDGE = 1e9  # a ridge map held so firmly is none
FREELY = 0.02  # the search's rate where each step may change by itself, which must then change further


@dataclass
class Row:
    """A method after so many corrections of a stream, that of a seed; the columns are the script's."""

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
    """A model, its stream of corrections, and what they are measured on, after how many of them (`at`). `bare` are the
    model's answers as it is.
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
    bare: dict[str, list[str]] = field(default_factory=dict)

    def error(self, texts: Sequence[str], examples: Sequence[Any]) -> float:
        """The WER, or the TER as a fraction."""
        values = self.model.task.evaluate([example.text for example in examples], texts).values()
        return values["wer"] if "wer" in values else values["ter"] / 100

    def answer(self, examples: Sequence[Any], loader: Loader | None = None) -> list[str]:
        return decode_examples(
            self.model, self.model.task, examples, loader or Loader(batch_seconds=60, batch_tokens=3000)
        )

    def batch(self, example: Any) -> Batch:
        return collate([(example, self.model.reader.read(example))])

    def right(self, example: Any) -> bool:
        normalise = self.model.task.normalise
        with torch.no_grad():
            return normalise(self.model.task.decode(self.model, self.batch(example))[0]) == normalise(example.text)

    def loss(self, batch: Batch) -> Tensor:
        greedy = hasattr(self.model, "blank")
        return ctc_greedy_loss(self.model, batch) if greedy else self.model.task.loss(self.model, batch)


class Method:
    """Learns corrections one by one; `on` is the interventions that answer with them."""

    def __init__(self, case: Case) -> None:
        self.case, self.kilobytes = case, 0.0

    def learn(self, number: int, example: Any) -> None:
        """Take in a correction."""

    def on(self) -> list[Intervention]:
        """What is put on the model."""
        return []

    def undo(self, number: int) -> bool:
        """Take a correction back; False where that cannot be."""
        return False


class Remembering(Method):
    """`Memory`, all of it or a part."""

    def __init__(self, case: Case, strength: float, parts: str = "both", gated: bool = True) -> None:
        super().__init__(case)
        self.memory = Memory.new(case.protected, strength, gated=gated)
        self.view = replace(self.memory, parts=parts)
        self.search = replace(case.search, rate=FREELY) if parts == "codebook" else case.search

    def learn(self, number: int, example: Any) -> None:
        case = self.case
        batch = case.batch(example)
        steps = int(valid_lengths(case.model, batch)(case.layer.site))
        found = correct(
            case.model, self.view, number, lambda: case.loss(batch), lambda: case.right(example), steps, self.search
        )
        if found.entry is not None:
            self.kilobytes += len(pack_entry(found.entry)) / 1000

    def on(self) -> list[Intervention]:
        return [self.view]

    def undo(self, number: int) -> bool:
        if number in self.memory.entries:
            self.memory.remove(number)
        return True


class Found(Method):
    """What keeps the change that `find_change` finds in a way of its own."""

    def learn(self, number: int, example: Any) -> None:
        case = self.case
        batch = case.batch(example)
        with layer_inputs(case.model, case.layer) as found, torch.no_grad():
            case.loss(batch)
        steps = int(valid_lengths(case.model, batch)(case.layer.site))
        inputs = found[0][0][: case.layer.needed(steps)]
        change = find_change(
            case.model, case.layer.site, EditSubspace.unrestricted(steps), case.protected.output_scale, lambda:
            case.loss(batch),
            lambda: case.right(example), replace(case.search, rate=FREELY), self.on(),
        )  # fmt: skip
        if change.correct:
            self.keep(number, example, inputs, change.values)

    def keep(self, number: int, example: Any, inputs: Tensor, values: Tensor) -> None:
        """Keep a change `(steps, units)` at the layer's inputs."""


class Constant(Found):
    """The mean over all corrections and their steps of what they add."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.vectors: dict[int, Tensor] = {}

    def keep(self, number: int, example: Any, inputs: Tensor, values: Tensor) -> None:
        self.vectors[number] = values.mean(0) + (self._mean() if self.vectors else 0)
        self.kilobytes += values.shape[1] * 4 / 1000

    def _mean(self) -> Tensor:
        return torch.stack(list(self.vectors.values())).mean(0)

    def on(self) -> list[Intervention]:
        return [Steer(self.case.layer.site, self._mean())] if self.vectors else []

    def undo(self, number: int) -> bool:
        self.vectors.pop(number, None)
        return True


@dataclass(frozen=True, eq=False)
class Keyed(Intervention):
    """Edits a site by a function of its output and its module's inputs."""

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


class HardCodebook(Found):
    """Within half the distance to the nearest protected key the value is added, outside nothing; keys are whole."""

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

    def on(self) -> list[Intervention]:
        return [Keyed(self.case.layer.site, self._edit)] if self.kept else []

    def undo(self, number: int) -> bool:
        self.kept.pop(number, None)
        return True


class Neighbours(Method):
    """The labels of the nearest of all corrected steps, by the output layer's input, mixed into the output."""

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
        if hasattr(model, "blank"):
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

    def on(self) -> list[Intervention]:
        return [Keyed(self.site, self._edit)] if self.kept else []

    def undo(self, number: int) -> bool:
        self.kept.pop(number, None)
        return True


class Tuning(Method):
    """Adam steps on a correction until it is decoded, with protected examples besides where there is `replay`."""

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
            if float(loss.detach()) < case.search.margin and case.right(example):
                return
            if self.replay:
                others = self.draw.sample(case.rehearsal, self.replay)
                more = collate([(other, case.model.reader.read(other)) for other in others])
                loss = loss + self.replay * case.model.task.loss(case.model, more)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


class Jointly(Method):
    """The bare model, tuned on all corrections so far together, many times over."""

    epochs, rate, together = 15, 5e-4, 10

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.bare, self.examples = copy.deepcopy(case.model.state_dict()), []
        self.kilobytes = sum(parameter.nbytes for parameter in case.model.parameters()) / 1000

    def learn(self, number: int, example: Any) -> None:
        case = self.case
        self.examples.append((example, case.model.reader.read(example)))
        if len(self.examples) not in case.at:
            return
        case.model.load_state_dict(self.bare)
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
    """Each method's maker."""
    return {
        "ridge+codebook": lambda case: Remembering(case, strength),
        "no gate": lambda case: Remembering(case, strength, gated=False),
        "ridge": lambda case: Remembering(case, strength, "ridge"),
        "codebook": lambda case: Remembering(case, NO_RIDGE, "codebook"),
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
    """Those in which these words to somebody called du stand, and no others, as said to somebody called Sie."""
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
    """Weather notes, with every du of the target made a Sie. In the protected and the unrelated is no du and no ihr."""
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
    """A base of the digits' source speakers, which is trained where there is none yet."""
    if not (output / "metrics.json").is_file():
        print(f"Training a base of {folder} in {output}; --model DIR takes one that there is.", flush=True)
        options = ["experiment=fsdd_base", f"data.folder={folder}", f"output={output}", "resume=true"]
        subprocess.run([sys.executable, "-m", "adapt.cli", "pretrain", *options], check=True, cwd=ROOT)
    return str(output)


def cases_of(args: argparse.Namespace, at: Sequence[int]) -> list[Case]:
    """The model and the data that are asked for, at each of the sites."""
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
    if args.data in ("domains", "formality"):  # what it has no words for, it goes on about
        model.set_translating(replace(model.translating, max_tokens=48))
    stream, rehearsal = given.train, given.source_train
    texts = decode_examples(model, model.task, rehearsal, Loader())
    answered = [with_text(example, text) for example, text in zip(rehearsal, texts, strict=True) if text]
    sets = {"same": given.validation, "new": given.test, "unrelated": given.source_test}
    sets = {name: own[: args.test] for name, own in sets.items()}
    cases, bare = [], {}
    for layer in layers(model, args.sites):
        search = SEARCHES[layer.site.step.unit]
        known = collect_protected(model, layer, answered)
        case = Case(model, layer, known, stream, rehearsal, **sets, search=search, at=at, bare=bare)
        for name, own in sets.items():
            bare.setdefault(name, case.answer(own))
        cases.append(case)
    return cases


def layers(model: Model, sites: Sequence[str] | None) -> list[AffineLayer]:
    """The layers of these names or globs; "all" that can hold corrections, or the family's usual one for None."""
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
    """Stream corrections through a method, in an order that the seed draws (0: as they come); a row after each of
    `case.at`.
    """
    case = replace(case, model=copy.deepcopy(case.model))
    method, rows = make(case), []
    learned: list[tuple[int, Any]] = []
    fixed, seconds = 0, 0.0
    edits, stream = Edits(case.model), list(case.stream)
    if seed:
        random.Random(seed).shuffle(stream)

    def put_on() -> None:
        edits.clear()
        for one in method.on():
            edits.add(one)

    for number, example in enumerate(stream):
        put_on()
        if case.right(example):
            continue
        edits.clear()
        started = time.perf_counter()
        method.learn(number, example)
        seconds += time.perf_counter() - started
        learned.append((number, example))
        put_on()
        fixed += case.right(example)
        if len(learned) in case.at:
            rows.append(_row(case, name, seed, method, [example for _, example in learned], fixed, seconds, edits))
        if len(learned) == max(case.at):
            break
    if rows:
        random.Random(0).shuffle(learned)
        gone = [method.undo(number) for number, _ in learned]
        put_on()
        if all(gone):
            after, before = case.answer(case.unrelated), case.bare["unrelated"]
            rows[-1].undo = sum(one != other for one, other in zip(after, before, strict=True)) / len(before)
    edits.clear()
    return rows


def _row(
    case: Case, name: str, seed: int, method: Method, learned: Sequence[Any], fixed: int, seconds: float, edits: Edits
) -> Row:
    normalise, count = case.model.task.normalise, len(learned)

    def kept(loader: Loader | None) -> float:
        texts = case.answer(learned, loader)
        return (
            sum(normalise(text) == normalise(example.text) for text, example in zip(texts, learned, strict=True))
            / count
        )

    def relative(which: str) -> float:
        examples = getattr(case, which)
        return case.error(case.answer(examples), examples) / case.error(case.bare[which], examples) - 1

    before = case.bare["unrelated"]
    started = time.perf_counter()
    after = case.answer(case.unrelated)
    live = time.perf_counter() - started
    told = {"kept": kept(ALONE), "kept_in_batches": kept(None), "same": relative("same"), "new": relative("new")}
    edits.clear()
    started = time.perf_counter()
    case.answer(case.unrelated)
    bare = time.perf_counter() - started
    return Row(
        case.layer.site.name, seed, name, count, fixed / count, **told,
        unchanged=sum(one == other for one, other in zip(before, after, strict=True)) / len(before),
        error_before=case.error(before, case.unrelated), error_after=case.error(after, case.unrelated),
        seconds=seconds / count, kilobytes=method.kilobytes / count, slower=live / bare,
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
    """The mean over seeds of each method, at each site and number of corrections."""
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
    parser.add_argument("--model", help="default: the embedded one; of fsdd, a base of its own")
    parser.add_argument("--folder", help="of fsdd")
    parser.add_argument("--base", type=Path, default=Path("outputs/study_corrections/fsdd"),
                        help="of fsdd, where a base is trained without --model")  # fmt: skip
    parser.add_argument("--sites", nargs="+", help="names or globs of one layer each, or all; default: the family's")
    parser.add_argument("--seeds", type=int, default=1, help="so many streams, and their mean")
    parser.add_argument("--strength", type=float, help="default: as usual, 300")
    parser.add_argument("--methods", nargs="+", choices=methods(0), default=list(methods(0)))
    parser.add_argument("--corrections", type=int, default=100)
    parser.add_argument("--at", type=int, nargs="+", help="default: a tenth, 30 %% and all of them")
    parser.add_argument("--test", type=int, default=200, help="examples of each test set")
    parser.add_argument("--protected", type=int, default=200)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
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
        print(f"{case.layer.site.name}, strength {strength:g}; error as it is: " + ", ".join(
            f"{name} {100 * case.error(texts, getattr(case, name)):.1f}" for name, texts in case.bare.items()
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


if __name__ == "__main__":
    main()
